"""What the benchmark measured, as values, and the file that keeps them.

`results.json` holds every sample of every part, so that RESULTS.md can be written again
and a single part can be measured again (`--only`) without losing the others. Each part
carries its own stamp: when, on what, how long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.bins import BinsFigures
from benchmarks.cost import CostSample
from benchmarks.fan_in import CurvePair, FanInSample
from benchmarks.grpc_part import GrpcFigures
from benchmarks.machine import Machine
from benchmarks.memory import LeakSample, MemorySample
from benchmarks.page import PageSample
from benchmarks.send_lag import LagSample
from benchmarks.show import ShowSample
from loadtests.errors import HarnessError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When and on what a part was measured."""

    machine: Machine
    versions: dict[str, str]
    commit: str | None
    is_quick: bool
    took_s: float
    stolen_ratio: float  # of one core's time, taken by the hypervisor meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPart:
    """CPU per request."""

    stamp: Stamp
    titles: dict[str, str]
    seconds: float
    open_rate_per_s: float
    saturation_per_s: float
    samples: tuple[CostSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LagPart:
    """Send lag."""

    stamp: Stamp
    seconds: float
    saturation_per_s: float
    samples: tuple[LagSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPart:
    """Resident memory."""

    stamp: Stamp
    samples: tuple[MemorySample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakPart:
    """Growth of resident memory."""

    stamp: Stamp
    samples: tuple[LeakSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FanInPart:
    """Master with many agents."""

    stamp: Stamp
    samples: tuple[FanInSample, ...]
    limit: str = ""  # what could not be held, and how it ended


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthPart:
    """Memory of a master over a long run."""

    stamp: Stamp
    sample: FanInSample


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePart:
    """What CURVE costs a master."""

    stamp: Stamp
    pairs: tuple[CurvePair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowPart:
    """`headroom show`."""

    stamp: Stamp
    sample: ShowSample


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePart:
    """`headroom report`, by length of the archive."""

    stamp: Stamp
    samples: tuple[PageSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcPart:
    """gRPC."""

    stamp: Stamp
    figures: GrpcFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsPart:
    """CPU per request with bins of 100 ms and without."""

    stamp: Stamp
    seconds: float
    rest: BinsFigures
    grpc: BinsFigures


Part = (
    CostPart
    | LagPart
    | MemoryPart
    | LeakPart
    | FanInPart
    | GrowthPart
    | CurvePart
    | ShowPart
    | PagePart
    | GrpcPart
    | BinsPart
)


_FIELDS: Final[Mapping[type[Part], str]] = {
    CostPart: "cost",
    LagPart: "lag",
    MemoryPart: "memory",
    LeakPart: "leak",
    FanInPart: "fan_in",
    GrowthPart: "growth",
    CurvePart: "curve",
    ShowPart: "show",
    PagePart: "page",
    GrpcPart: "grpc",
    BinsPart: "bins",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All parts; None where a part was never measured."""

    cost: CostPart | None = None
    lag: LagPart | None = None
    memory: MemoryPart | None = None
    leak: LeakPart | None = None
    fan_in: FanInPart | None = None
    growth: GrowthPart | None = None
    curve: CurvePart | None = None
    show: ShowPart | None = None
    page: PagePart | None = None
    grpc: GrpcPart | None = None
    bins: BinsPart | None = None

    def with_part(self, part: Part) -> Results:
        """Return the same results with one part measured anew."""
        changed: dict[str, Any] = {_FIELDS[type(part)]: part}
        return replace(self, **changed)


def load_results(path: Path) -> Results:
    """Read what was kept, nothing when there is no file; HarnessError on a damaged one."""
    if not path.exists():
        return Results()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except msgspec.MsgspecError as error:
        raise HarnessError(
            where=str(path), seen=str(error), expected="results of this version; else delete it"
        ) from error


def store_results(path: Path, results: Results) -> None:
    """Replace the file at once, so that an interrupted benchmark keeps what it had."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    fresh.replace(path)
