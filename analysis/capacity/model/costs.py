"""The cost file: prices of the system under load and of the generators, and the rates asked for.

TOML with unknown keys refused, so that a typo is no default. It holds data and their
sources; what is done with them is `bill`'s.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.units import UnitError, parse_rate_per_s

VERSION: Final = 1
_EXPECTED: Final = "a cost file as scenarios/costs/aurigraph.toml is one"

Money = Annotated[float, msgspec.Meta(ge=0)]
Whole = Annotated[int, msgspec.Meta(ge=1)]


class Growth(Enum):
    """What an item costs with other numbers of nodes."""

    WITH_NODES = "with nodes"
    FIXED = "fixed"
    UNKNOWN = "unknown"  # somewhere between the two


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class Item(_Strict, frozen=True, kw_only=True):
    """Something that is paid for by the month, as it was priced for `nodes` nodes."""

    name: str
    per_month: Money
    nodes: Whole
    grows: Growth


class Generators(_Strict, frozen=True, kw_only=True):
    """Hosts that make load: price of one, its cores, hours of load a month."""

    name: str
    per_hour: Money
    cores: Whole
    hours_per_month: Annotated[float, msgspec.Meta(ge=0, le=744)]


class Demand(_Strict, frozen=True, kw_only=True):
    """Rates as texts with their unit; `zones` that nodes are spread over evenly."""

    rates: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    zones: Annotated[int, msgspec.Meta(ge=2)]

    @property
    def rates_per_s(self) -> tuple[float, ...]:
        """The rates as numbers; UnitError on a text that is no rate."""
        return tuple(parse_rate_per_s(text) for text in self.rates)


class Costs(_Strict, frozen=True, kw_only=True):
    """The whole file."""

    version: int
    currency: str
    demand: Demand
    items: Annotated[tuple[Item, ...], msgspec.Meta(min_length=1)]
    generators: Generators


def load_costs(path: Path) -> Costs:
    """Read a cost file; ScenarioError says what is wrong with it, and where."""
    try:
        costs = msgspec.toml.decode(path.read_bytes(), type=Costs)
        rates = costs.demand.rates_per_s
    except UnitError as error:
        raise _mistake(path, f"demand.rates, one of which is not {error.expected}") from error
    except (OSError, ValueError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise _mistake(path, str(error)) from error
    if costs.version != VERSION:
        raise _mistake(path, f"version {costs.version}; this program reads {VERSION}")
    if min(rates) <= 0:
        raise _mistake(path, "a rate of 0 in demand.rates")
    return costs


def _mistake(path: Path, seen: str) -> ScenarioError:
    mistake = Mistake(where=str(path), seen=seen, expected=_EXPECTED)
    return ScenarioError("--costs", (mistake,))
