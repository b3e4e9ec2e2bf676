"""Confidence intervals of the objectives' values and of the spectra, where there is a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.blocks import Blocks, Key
from analysis.figures import StageFigures
from analysis.report.spectrum import Confidence
from analysis.verdict import Verdict
from loadtests.record.archive import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """`texts` by the objective's place in the verdict; `bands` by stage."""

    texts: Mapping[int, str]
    bands: Mapping[str, Confidence]


def build_intervals(
    run: Run, verdict: Verdict, stages: Sequence[StageFigures], blocks: Mapping[Key, Blocks]
) -> Intervals:
    """TODO."""
    return Intervals(texts={}, bands={})
