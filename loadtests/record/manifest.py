"""What an archive says about its run: `run.json`, as frozen types.

Owns the schema and its strict decoding: an unknown key, a wrong type and a schema of
another version are refused with a sentence, never guessed. A *draft* is a manifest whose
outcome is RUNNING; it is written first, so that a crash leaves a run that says so.

Law: with the manifest, the plan file and the tables beside it, any verdict can be
computed again, years later, on any machine. Secrets are not in it (`redaction.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.record.window import SlotSpace

SCHEMA_VERSION: Final = 1
RUN_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z_[A-Za-z0-9][A-Za-z0-9.-]{0,47}_[0-9a-f]{8}")


class Outcome(Enum):
    """How a run ended."""

    RUNNING = "running"  # the draft: either it runs now, or it died without a word
    COMPLETE = "complete"
    ABORTED = "aborted"  # by its user, a guard, an abort condition or the loss policy
    CRASHED = "crashed"  # the harness failed and could still say so


class _Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the manifest's types: immutable, named fields, unknown keys refused."""


class HostFacts(_Fact, frozen=True, kw_only=True):
    """The machine that a master or an agent ran on."""

    hostname: str
    cores: int  # that this process may use (affinity), not that the machine has
    kernel: str
    cpu_model: str
    memory_bytes: int
    python: str


class StageFacts(_Fact, frozen=True, kw_only=True):
    """A stage, `[start_ns, end_ns)` from T0, in plan order."""

    name: str
    start_ns: int
    end_ns: int
    is_judged: bool


class Sums(_Fact, frozen=True, kw_only=True):
    """Counters over a whole run: planned = sent + dropped; sent = outcomes + in flight.

    Of an engine without a FINAL some planned ones may still be waiting.
    """

    planned: int
    sent: int
    dropped: int
    ok: int
    client_error: int
    failed: int
    in_flight_at_stop: int

    @property
    def done(self) -> int:
        """Requests with an outcome."""
        return self.ok + self.client_error + self.failed

    @property
    def waiting(self) -> int:
        """Arrivals planned, neither sent nor dropped: none once an engine has said FINAL."""
        return self.planned - self.sent - self.dropped


class EngineSums(_Fact, frozen=True, kw_only=True):
    """What one engine counted; without `has_final` these are the last sums it handed over."""

    agent: str
    engine: str  # "<agent>/<index>", as in EngineHealth
    has_final: bool
    sums: Sums


class LostRequests(_Fact, frozen=True, kw_only=True):
    """What engines without a FINAL left open, by the last sums they handed over.

    What they did after those is in `lost_windows`.
    """

    in_flight: int  # sent, outcome unknown
    in_backlog: int  # planned, neither sent nor dropped


def lost_requests_of(engines: Iterable[EngineSums]) -> LostRequests:
    """Add up over the engines without a FINAL."""
    lost = [engine.sums for engine in engines if not engine.has_final]
    return LostRequests(
        in_flight=sum(sums.in_flight_at_stop for sums in lost),
        in_backlog=sum(sums.waiting for sums in lost),
    )


class AgentFacts(_Fact, frozen=True, kw_only=True):
    """One agent. Offset and round trip are None when the clocks were never compared."""

    agent: str
    incarnation: str
    host: HostFacts
    engines: int
    clock_offset_ns: int | None  # agent's wall clock minus the master's, estimated
    round_trip_ns: int | None  # of the best exchange: the offset is uncertain by half of it
    has_final: bool
    versions: dict[str, str]
    warnings: tuple[str, ...]


class LostWindow(_Fact, frozen=True, kw_only=True):
    """A stretch that was not handed over: `[from_s, to_s)` unix seconds."""

    who: str
    from_s: int
    to_s: int
    planned: int  # arrivals of the plan in it


class Manifest(_Fact, frozen=True, kw_only=True):
    """`run.json`. Times with `unix_ns` are UTC labels; T0 is None before the start barrier."""

    schema_version: int
    run_id: str
    scenario_name: str
    scenario_text: str
    plan_sha256: str  # of plan.msgpack, the plan's encoded bytes
    seed: int
    scale: float
    load_model: str
    t0_unix_ns: int | None
    created_unix_ns: int
    finished_unix_ns: int | None
    stages: tuple[StageFacts, ...]
    requests: tuple[str, ...]  # ends in window.CONNECTION
    nodes: tuple[str, ...]
    command: tuple[str, ...]
    host: HostFacts  # the master's
    versions: dict[str, str]
    git_commit: str | None  # of the working directory; "+dirty" with uncommitted changes
    target_version: str | None
    agents: tuple[AgentFacts, ...]
    engine_sums: tuple[EngineSums, ...]
    total_sums: Sums | None  # None until the end
    # None until the end, and in archives from before it was stated.
    lost_requests: LostRequests | None = None
    lost_windows: tuple[LostWindow, ...]
    warnings: tuple[str, ...]
    outcome: Outcome
    outcome_reason: str
    events: int
    checksums: dict[str, str]  # file name -> SHA-256 of the archive's other files
    sizes_bytes: dict[str, int] = {}  # of the same; empty in archives from before it was stated

    @property
    def slots(self) -> SlotSpace:
        """The numbering of this run's windows."""
        return SlotSpace(
            stages=tuple(stage.name for stage in self.stages),
            requests=self.requests,
            nodes=self.nodes,
        )

    def judges(self, stage: int, window_s: int) -> bool:
        """Tell whether a window counts for a stage's figures.

        A window that lies partly outside the stage does not: at the start it mixes in the
        stage before, at the end it is cut short. A window after the stage holds only late
        answers to its arrivals, and leaving those out would flatter the stage.
        """
        if self.t0_unix_ns is None:
            return False
        facts = self.stages[stage]
        start_ns, end_ns = self.t0_unix_ns + facts.start_ns, self.t0_unix_ns + facts.end_ns
        window_ns = window_s * NS_PER_S
        return window_ns >= start_ns and not window_ns < end_ns < window_ns + NS_PER_S


class _Schema(msgspec.Struct):
    """The one field that every schema version has."""

    schema_version: int


_DECODER: Final = msgspec.json.Decoder(Manifest)
_SCHEMA_DECODER: Final = msgspec.json.Decoder(_Schema)


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON for people and machines: indented, UTF-8, newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Decode `run.json`; HarnessError on damage and on another schema version."""
    try:
        version = _SCHEMA_DECODER.decode(data).schema_version
        if version != SCHEMA_VERSION:
            age = "newer" if version > SCHEMA_VERSION else "older"
            raise HarnessError(
                where=where,
                seen=f"archive schema {version}, {age} than this program's",
                expected=f"schema {SCHEMA_VERSION}; read it with the version that wrote it",
            )
        manifest = _DECODER.decode(data)
        _check_names(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise HarnessError(
            where=where, seen=str(error), expected="a run.json as this program writes it"
        ) from error
    return manifest


def _check_names(manifest: Manifest) -> None:
    if not RUN_ID.fullmatch(manifest.run_id):
        raise ValueError(f"run id {manifest.run_id!r} is not a run id")
    names = manifest.slots
    for words in (names.stages, names.requests, names.nodes):
        if not words or len(set(words)) != len(words):
            raise ValueError(f"stages, requests and nodes must be named and unique: {words}")
