"""What a baseline's file holds: frozen, strict, with a schema version; older files stay readable.

Schema 2 added how the load was made up (`phase` to `nodes`), schema 3 the whole distribution of
response times (`response` of a row). In an older baseline these are None: nobody wrote them
down, and nothing here guesses them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from analysis.kept_histogram import KeptHistogram

BASELINE_SCHEMA: Final = 3
_WITHOUT_HISTOGRAMS: Final = 2
# Field -> what a file of schema 1 says about it.
_ADDED: Final = {
    "phase": None,
    "protocols": None,
    "services": None,
    "mix_sha256": None,
    "load_sha256": None,
    "nodes": None,
}


class BaselineRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One judged stage, all requests together; response times in us, None: n too small."""

    stage: str
    duration_s: int
    planned_per_s: float
    throughput_per_s: float
    goodput_per_s: float
    n: int
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    p999_us: float | None
    max_us: float | None
    error_ratio: float
    dropped: int
    response: KeptHistogram | None = None  # of ok requests; None: older, or there was none


class HardeningRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One objective on a failover: what was expected, what was measured, and the state."""

    expected: str
    actual: str
    status: str


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promoted run; `warnings` are the names of the laws that had one.

    `phase` is what the promoter called it, such as "staging". Runs of equal `mix_sha256` sent
    the same requests in the same proportions, those of equal `load_sha256` the same stages.
    """

    schema_version: int
    run_id: str
    scenario: str
    description: str
    created_unix_ns: int
    load_percent: float | None
    load_model: str
    scale: float
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    hosts: int
    target_version: str | None
    git_commit: str | None
    phase: str | None
    protocols: tuple[str, ...] | None  # "REST", "gRPC"
    services: tuple[str, ...] | None  # of gRPC, without their package
    mix_sha256: str | None
    load_sha256: str | None
    nodes: int | None  # of the target
    rows: tuple[BaselineRow, ...]
    hardening: tuple[HardeningRow, ...] = ()  # of a run with faults; empty before there were any

    @property
    def is_scaled(self) -> bool:
        """Whether its rates were not those of the scenario."""
        return self.scale != 1.0


class _Schema(msgspec.Struct):
    """The one field that every schema has."""

    schema_version: int


def encode_baseline(baseline: Baseline) -> bytes:
    """Indented JSON with sorted keys and a newline at its end."""
    data = msgspec.json.encode(baseline, order="sorted")
    return msgspec.json.format(data, indent=2) + b"\n"


def decode_baseline(data: bytes) -> Baseline:
    """A baseline of this schema or an older one; ValueError says what is wrong with it.

    `schema_version` stays that of the file.
    """
    version = msgspec.json.decode(data, type=_Schema).schema_version
    if version in {_WITHOUT_HISTOGRAMS, BASELINE_SCHEMA}:
        return _checked(msgspec.json.decode(data, type=Baseline))
    if version == 1:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        known = {key: msgspec.json.decode(value) for key, value in document.items()}
        if added := sorted(_ADDED.keys() & known.keys()):
            raise ValueError(f"keys that schema 1 does not have: {', '.join(added)}")
        return msgspec.convert({**known, **_ADDED}, Baseline)
    raise ValueError(
        f"baseline schema {version}; this program reads 1 to {BASELINE_SCHEMA}, "
        "a newer one is read by the version that wrote it"
    )


def _checked(baseline: Baseline) -> Baseline:
    """The same; ValueError where a histogram does not say what its row says."""
    for row in baseline.rows:
        if row.response is not None and not 0 < row.response.histogram().n <= row.n:
            raise ValueError(
                f"stage {row.stage!r}: a histogram that is not of its {row.n} requests"
            )
    return baseline


def _plain(baseline: Baseline) -> Baseline:
    """Without histograms."""
    rows = tuple(msgspec.structs.replace(row, response=None) for row in baseline.rows)
    return msgspec.structs.replace(baseline, rows=rows)


def _counts(baseline: Baseline) -> list[bytes]:
    """The histograms' counts: two compressors may write the same ones differently."""
    kept = (row.response for row in baseline.rows if row.response is not None)
    return [one.histogram().counts.tobytes() for one in kept]


def is_same_record(old: Baseline, new: Baseline) -> bool:
    """Whether a kept baseline says what a new one would, as far as its schema could say it."""
    if old.schema_version == 1:
        new = msgspec.structs.replace(new, **_ADDED)
    new = msgspec.structs.replace(new, schema_version=old.schema_version)
    if _plain(new) != _plain(old):
        return False
    return old.schema_version <= _WITHOUT_HISTOGRAMS or _counts(new) == _counts(old)
