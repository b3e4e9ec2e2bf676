"""The file of host types: what one offers and costs, and what a master's load was measured to be.

TOML with unknown keys refused, so that a typo is no default. It holds data and their
sources; what is done with them is `sizing`'s.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import msgspec

from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.spread import Spread
from loadtests.plan.units import UnitError, parse_duration_ns, parse_ratio

VERSION: Final = 1
_EXPECTED: Final = "a file of host types as scenarios/costs/aws-hosts.toml is one"
_GBPS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) Gbps")
_NETWORK_EXPECTED: Final = 'a bandwidth such as "12.5 Gbps"'

Money = Annotated[float, msgspec.Meta(ge=0)]
Whole = Annotated[int, msgspec.Meta(ge=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class HostType(_Strict, frozen=True, kw_only=True):
    """One type: cores that a process sees, price of an hour, sustained bandwidth each way."""

    name: str
    cores: Annotated[int, msgspec.Meta(ge=2)]  # one is the agent's and the kernel's
    per_hour: Money
    network: str

    @property
    def bits_per_s(self) -> float:
        """The bandwidth as a number; UnitError on a text that is none."""
        found = _GBPS.fullmatch(self.network)
        if found is None or float(found[1]) <= 0:
            raise UnitError(_NETWORK_EXPECTED)
        return float(found[1]) * 1e9


class Limits(_Strict, frozen=True, kw_only=True):
    """What a host of any type is set to allow."""

    descriptors: Whole  # of one process
    ports: Whole  # of one source address, to one address and port


class MasterLoad(_Strict, frozen=True, kw_only=True):
    """Part of one core that a master took with so many agents, undisturbed and at most."""

    agents: Whole
    low: str
    high: str

    @property
    def ratio(self) -> Spread:
        """As a ratio of one core; UnitError on a text that is no percentage."""
        return Spread(low=parse_ratio(self.low), high=parse_ratio(self.high))


class HostTypes(_Strict, frozen=True, kw_only=True):
    """The whole file."""

    version: int
    currency: str
    as_of: date
    nights_per_month: Annotated[float, msgspec.Meta(ge=0, le=31)]
    minimum: str
    beside: str
    limits: Limits
    master: tuple[MasterLoad, ...]
    hosts: Annotated[tuple[HostType, ...], msgspec.Meta(min_length=1)]

    @property
    def minimum_ns(self) -> int:
        """The shortest time that is billed."""
        return parse_duration_ns(self.minimum)

    @property
    def beside_ns(self) -> int:
        """Time of hosts that a run takes besides its load."""
        return parse_duration_ns(self.beside)


def load_host_types(path: Path) -> HostTypes:
    """Read the file; ScenarioError says what is wrong with it, and where."""
    try:
        types = msgspec.toml.decode(path.read_bytes(), type=HostTypes)
        _check(types)
    except UnitError as error:
        raise _mistake(path, f"a value that is not {error.expected}") from error
    except (OSError, ValueError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise _mistake(path, str(error)) from error
    return types


def _check(types: HostTypes) -> None:
    """ValueError for what types alone do not refuse; UnitError for texts without a unit."""
    if types.version != VERSION:
        raise ValueError(f"version {types.version}; this program reads {VERSION}")
    names = [one.name for one in types.hosts]
    if len(set(names)) != len(names):
        raise ValueError(f"host types of one name: {', '.join(names)}")
    agents = [one.agents for one in types.master]
    if agents != sorted(set(agents)):
        raise ValueError(f"[[master]] with {agents} agents, not rising")
    _ = [one.ratio for one in types.master], [one.bits_per_s for one in types.hosts]
    _ = types.minimum_ns, types.beside_ns


def _mistake(path: Path, seen: str) -> ScenarioError:
    mistake = Mistake(where=str(path), seen=seen, expected=_EXPECTED)
    return ScenarioError("host types", (mistake,))
