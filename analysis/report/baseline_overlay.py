"""The baseline that a run is drawn beside: the newest promoted one of the same kind.

Same scenario, scale, load model and share of its named rate, promoted from another run that
began before this one. What a baseline keeps are a few percentiles a stage; they are drawn
as points and nothing is made up between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from analysis.baseline_types import Baseline, BaselineRow
from analysis.report.spectrum import Curve
from analysis.verdict import Verdict
from loadtests.record.manifest import Manifest

_KEPT: Final = ((0.5, "p50_us"), (0.95, "p95_us"), (0.99, "p99_us"), (0.999, "p999_us"))


def choose_baseline(
    baselines: Sequence[Baseline], manifest: Manifest, verdict: Verdict
) -> Baseline | None:
    """The newest that may stand beside the run; None without one."""
    own = [
        baseline
        for baseline in baselines
        if (baseline.scenario, baseline.scale, baseline.load_model, baseline.load_percent)
        == (manifest.scenario_name, manifest.scale, manifest.load_model, verdict.load_percent)
        and baseline.run_id != manifest.run_id
        and baseline.created_unix_ns < manifest.created_unix_ns
    ]
    return max(own, key=lambda baseline: (baseline.created_unix_ns, baseline.run_id), default=None)


def curve_of(row: BaselineRow) -> Curve:
    """The percentiles that a baseline keeps of a stage."""
    kept = [(q, value) for q, name in _KEPT if (value := getattr(row, name)) is not None]
    return Curve(
        quantiles=np.array([q for q, _ in kept], dtype=np.float64),
        values_us=np.array([value for _, value in kept], dtype=np.float64),
    )


def row_of(baseline: Baseline | None, stage: str) -> BaselineRow | None:
    """Its row of a stage, if that stage was judged then."""
    rows = baseline.rows if baseline is not None else ()
    return next((row for row in rows if row.stage == stage), None)
