"""Histories made of figures: a night is a baseline with one stage."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from analysis.baseline_types import BASELINE_SCHEMA, Baseline, BaselineRow
from analysis.trend.digests import Digest
from analysis.trend.history import History, build_history

DAY_NS = 86_400 * 10**9
START_NS = 1_790_000_000 * 10**9
Floats = NDArray[np.float64]


def row(stage: str = "steady", **changes: object) -> BaselineRow:
    """A quiet stage."""
    quiet = BaselineRow(
        stage=stage, duration_s=10, planned_per_s=500.0, throughput_per_s=500.0,
        goodput_per_s=500.0, n=5000, p50_us=20_000.0, p95_us=29_000.0, p99_us=30_000.0,
        p999_us=31_000.0, max_us=32_000.0, error_ratio=0.0, dropped=0,
    )  # fmt: skip
    return msgspec.structs.replace(quiet, **changes)


def night(number: int, *rows: BaselineRow, **changes: object) -> Baseline:
    """The run of a night, one after the other."""
    one = Baseline(
        schema_version=BASELINE_SCHEMA,
        run_id=f"20260921T{number // 60:02d}{number % 60:02d}00Z_good_{number:08x}",
        scenario="good",
        description="",
        created_unix_ns=START_NS + number * DAY_NS,
        load_percent=100.0,
        load_model="open",
        scale=1.0,
        verdict="PASS",
        reasons=(),
        warnings=(),
        hosts=1,
        target_version=None,
        git_commit=None,
        phase=None,
        protocols=("REST",),
        services=(),
        mix_sha256="a" * 64,
        load_sha256="b" * 64,
        nodes=4,
        rows=rows or (row(),),
    )
    return msgspec.structs.replace(one, **changes)


def digest(figures: Baseline, refusal: str = "") -> Digest:
    """What a history reads of an archive."""
    return Digest(rules="", manifest_sha256="", refusal=refusal, figures=figures)


def history_of(nights: Sequence[Baseline]) -> History:
    """All of them, from archives."""
    return build_history("good", [digest(one) for one in nights], [])


def nights_of_p95(values: Sequence[float] | Floats) -> list[Baseline]:
    """Nights that differ in p95 alone."""
    return [night(at, row(p95_us=float(value))) for at, value in enumerate(values)]


def normal_nights(random: np.random.Generator, nights: int, noise_ratio: float) -> Floats:
    """Logarithms of same-code nights."""
    return random.normal(0.0, noise_ratio, nights)


def spiky_nights(random: np.random.Generator, nights: int, noise_ratio: float) -> Floats:
    """The same with one night in ten up to half as slow again: log-normal, skewed, spiky."""
    is_spike = random.random(nights) < 0.1
    return normal_nights(random, nights, noise_ratio) + is_spike * np.abs(
        random.normal(0.3, 0.1, nights)
    )
