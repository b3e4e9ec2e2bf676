"""What can be done to a node: the actions by name, built in and of installed packages.

An action owns no state. Everything that its undo needs is in the strike, because whoever
undoes may be another process, started after ours was killed. Laws: `prepare` changes
nothing and refuses what could not be undone (also what is in force already, and so is not
ours to undo); `undo` may be called again and again, also when `apply` never was; `look`
tells what is so by asking the system, not by remembering.

A user's own action is a class like these, without constructor arguments, as an entry point:

    [project.entry-points."headroom.fault_actions"]
    fill-disk = "my_package.faults:FillDisk"
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final, Protocol

from loadtests.failover.balancer import Drain, Maintenance, Weight
from loadtests.failover.commands import Exec
from loadtests.failover.network import Cut
from loadtests.failover.process_actions import Kill, Pause, Restart, Stop
from loadtests.failover.proxy_actions import Bandwidth, BlackHole, HalfOpen, Latency, Reset
from loadtests.failover.strike import FaultError, Sight, Strike
from loadtests.failover.traffic import Traffic
from loadtests.plan.faults import ENTRY_POINTS

TRAFFIC: Final = "traffic"  # of rollouts; no scenario's fault can name it


class Action(Protocol):
    """Five methods, because a fault has five steps; all may raise FaultError."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """What has to be known to go back; changes nothing."""
        ...

    def apply(self, strike: Strike) -> None:
        """Return as soon as it is done: that moment is the fault's acknowledged time."""
        ...

    def undo(self, strike: Strike) -> None:
        """Go back to what `prepare` found; nothing when that is so already."""
        ...

    def look(self, strike: Strike) -> Sight:
        """Whether it is in force, or gone."""
        ...

    def repair(self, strike: Strike) -> str:
        """The command with which a person does what `undo` could not."""
        ...


class Noop:
    """Does nothing: a rehearsal of everything else."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Nothing to know."""
        del strike
        return {}

    def apply(self, strike: Strike) -> None:
        """Nothing to do."""

    def undo(self, strike: Strike) -> None:
        """Nothing to undo."""

    def look(self, strike: Strike) -> Sight:
        """In force and gone at the same time, as nothing is."""
        del strike
        return Sight(is_in_force=True, is_gone=True, text="a rehearsal")

    def repair(self, strike: Strike) -> str:
        """Nothing to repair."""
        del strike
        return "true"


_BUILT_IN: Final[dict[str, Action]] = {
    "noop": Noop(),
    "kill": Kill(),
    "stop": Stop(),
    "pause": Pause(),
    "restart": Restart(),
    "drain": Drain(),
    "maintenance": Maintenance(),
    "weight": Weight(),
    "cut": Cut(),
    "latency": Latency(),
    "bandwidth": Bandwidth(),
    "reset": Reset(),
    "black-hole": BlackHole(),
    "half-open": HalfOpen(),
    "exec": Exec(),
    TRAFFIC: Traffic(),
}


def action_of(name: str) -> Action:
    """The action; FaultError when no installed package has it, or it cannot be made."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            made: Action = point.load()()
        except Exception as error:
            raise FaultError(
                where=f"action {name}", seen=f"{point.value}: {error}", expected="an action"
            ) from error
        return made
    raise FaultError(
        where=f"action {name}", seen="no package that has it", expected="it to be installed here"
    )
