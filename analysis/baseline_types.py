"""What a baseline's file holds: frozen, strict, with a schema version."""

from __future__ import annotations

from typing import Final

import msgspec

BASELINE_SCHEMA: Final = 1


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


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promoted run; `warnings` are the names of the laws that had one."""

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
    rows: tuple[BaselineRow, ...]

    @property
    def is_scaled(self) -> bool:
        """Whether its rates were not those of the scenario."""
        return self.scale != 1.0
