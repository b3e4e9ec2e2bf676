"""The result of a search: bounds of each goal, the critical rate, what has to be said of them.

A function of the settings, the trials and how it ended; the file of a search,
`results/searches/<id>.json`, is this record as JSON with sorted keys, written anew after each
trial. `schema_version` changes when a reader of before could misread it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from analysis.capacity.search.bounds import Bounds, find_bounds
from analysis.capacity.search.decide import Ending, ceiling_per_s
from analysis.capacity.search.drift import find_drift_ratio
from analysis.capacity.search.settings import Settings
from analysis.capacity.search.trials import Trial
from loadtests.errors import HarnessError, Mistake, ScenarioError
from loadtests.record.files import replace_file, writing

SEARCH_SCHEMA: Final = 1
FOLDER: Final = "searches"
UNSTABLE_WIDTH: Final = 0.25  # bounds further apart than this answer no question


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was searched: `stage` gave the objectives, `seed` of trial n is `seed` + n."""

    scenario: str
    stage: str
    objectives: tuple[str, ...]
    nodes: tuple[str, ...]
    seed: int
    created_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalRate:
    """Geometric mean of the bounds at all p99 limits; None where one of them is missing."""

    lower_per_s: float | None
    upper_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """All that is known. `ending` None: it still goes on, or died without a word."""

    schema_version: int
    search_id: str
    subject: Subject
    settings: Settings
    ending: Ending | None
    ending_detail: str
    trials: tuple[Trial, ...]
    bounds: tuple[Bounds, ...]  # the objectives' first
    critical: CriticalRate | None
    ceiling_per_s: float | None  # the lowest rate that could not be measured
    drift_ratio: float | None

    @property
    def objectives(self) -> Bounds:
        """The bounds of the objectives."""
        return self.bounds[0]

    @property
    def is_stable(self) -> bool:
        """False when the bounds are of no one limit: it moved, or it is a wide range."""
        width = self.objectives.width_ratio
        return self.drift_ratio is None and (width is None or width <= UNSTABLE_WIDTH)

    @property
    def is_found(self) -> bool:
        """Whether there are both bounds, of a stable target, from a search that ended by itself."""
        is_ended = self.ending in {Ending.PRECISE, Ending.TRIALS_USED}
        return is_ended and self.objectives.width_ratio is not None and self.is_stable


def build_result(
    search_id: str,
    subject: Subject,
    settings: Settings,
    trials: Sequence[Trial],
    *,
    ending: Ending | None,
    detail: str = "",
) -> SearchResult:
    """What these trials say."""
    bounds = tuple(find_bounds(settings, trials, goal) for goal in settings.goals)
    return SearchResult(
        schema_version=SEARCH_SCHEMA,
        search_id=search_id,
        subject=subject,
        settings=settings,
        ending=ending,
        ending_detail=detail,
        trials=tuple(trials),
        bounds=bounds,
        critical=critical_rate(bounds[1:]) if settings.critical_ns else None,
        ceiling_per_s=ceiling_per_s(settings, trials),
        drift_ratio=find_drift_ratio(settings, trials),
    )


def critical_rate(bounds: Sequence[Bounds]) -> CriticalRate:
    """Of the bounds at the p99 limits."""
    return CriticalRate(
        lower_per_s=_mean([None if b.lower is None else b.lower.rate_per_s for b in bounds]),
        upper_per_s=_mean([None if b.upper is None else b.upper.rate_per_s for b in bounds]),
    )


def _mean(rates: Sequence[float | None]) -> float | None:
    """Geometric mean; None as soon as one is not known."""
    logs = [math.log(rate) for rate in rates if rate is not None]
    return math.exp(math.fsum(logs) / len(logs)) if len(logs) == len(rates) > 0 else None


def encode_result(result: SearchResult) -> bytes:
    """Indented JSON, keys sorted, newline at the end."""
    return msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2) + b"\n"


def search_path(results: Path, search_id: str) -> Path:
    """Where a search's file is."""
    return results / FOLDER / f"{search_id}.json"


def write_result(results: Path, result: SearchResult) -> Path:
    """Write it in one step; HarnessError when the folder cannot be written."""
    path = search_path(results, result.search_id)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, encode_result(result))
    return path


def load_result(path: Path) -> SearchResult:
    """Read a search's file; ScenarioError when there is none, HarnessError on a damaged one."""
    expected = "the file of a search as `headroom capacity search` writes it"
    try:
        result = msgspec.json.decode(path.read_bytes(), type=SearchResult)
    except FileNotFoundError as error:
        mistake = Mistake(where=str(path), seen="no such file", expected=expected)
        raise ScenarioError("search", (mistake,)) from error
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise HarnessError(where=str(path), seen=str(error), expected=expected) from error
    if result.schema_version != SEARCH_SCHEMA:
        seen = f"schema version {result.schema_version}"
        raise HarnessError(where=str(path), seen=seen, expected=f"version {SEARCH_SCHEMA}")
    return result
