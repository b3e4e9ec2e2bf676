"""`[failover.rollout]`: traffic moved to nodes of another version, phase by phase, and back.

[failover.rollout]
to = "11.1.0"                  # the nodes of this version have no traffic before
every = "30 s"                 # its last `window` is looked at so often
window = "5 min"
sustain = "5 min"              # a trigger that holds for so long rolls back
gap = "60 s"                   # longer without data holds the phase's clock
floor = ["error_ratio > 1 %", "p95 > 500 ms"]      # triggers of every phase

[[failover.rollout.phases]]
traffic = "10 %"
hold = "24 h"
triggers = ["error_ratio > 0.5 %", "p95 > 300 ms"]

What is looked at is what the nodes of the new version measured themselves: counters and buckets
of `timers` at `path`, without requests whose uri begins with `ignore`. Weights are whole numbers
up to 256 (HAProxy), so a share is reached as nearly as they allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadtests.plan.failover import FaultNode, Rollout, RolloutPhase, System, Trigger
from loadtests.plan.model import MeasureKind
from loadtests.plan.objectives import parse_alert
from loadtests.plan.spec import FailoverSpec, RolloutPhaseSpec, RolloutSpec
from loadtests.plan.units import UnitError, format_duration
from loadtests.plan.values import Mistakes, one_of, shown

HIGHEST_WEIGHT: Final = 256  # of a server: https://docs.haproxy.org/2.6/management.html#9.3
_TRIGGERS: Final = frozenset({MeasureKind.ERROR_RATIO, MeasureKind.RESPONSE_QUANTILE})
_TRIGGER_EXPECTED: Final = 'a trigger, such as "error_ratio > 1 %" or "p95 > 500 ms"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of each server of the version before, and of each of the new one."""

    old: int
    new: int

    def share(self, old_nodes: int, new_nodes: int) -> float:
        """What the new version gets of the traffic."""
        new = self.new * new_nodes
        return new / (new + self.old * old_nodes)


def weights_for(ratio: float, old_nodes: int, new_nodes: int) -> Weights:
    """The weights that come nearest to a share (0 < ratio <= 1), the largest of equals."""
    if ratio >= 1:
        return Weights(old=0, new=HIGHEST_WEIGHT)
    odds = (1 - ratio) / ratio * new_nodes / old_nodes
    tried = (
        Weights(old=round(new * odds), new=new)
        for new in range(1, HIGHEST_WEIGHT + 1)
        if 1 <= round(new * odds) <= HIGHEST_WEIGHT
    )
    nearest = Weights(old=HIGHEST_WEIGHT, new=1)  # as little as there is
    return min(
        [*tried, nearest],
        key=lambda one: (round(abs(one.share(old_nodes, new_nodes) - ratio), 9), -one.new),
    )


def parse_trigger(text: str) -> Trigger:
    """One trigger; UnitError otherwise."""
    try:
        alert = parse_alert(text)
    except UnitError as error:
        raise UnitError(f"{_TRIGGER_EXPECTED}: {error.expected}") from error
    measure = alert.measure
    if measure.kind not in _TRIGGERS or alert.request or alert.stage:
        raise UnitError(_TRIGGER_EXPECTED)
    return Trigger(text=alert.text, quantile=measure.quantile, limit=alert.limit)


def build_rollout(
    spec: FailoverSpec, nodes: Sequence[FaultNode], *, duration_ns: int, mistakes: Mistakes
) -> Rollout | None:
    """The rollout of a failover; None where it has none."""
    rollout = spec.rollout
    if rollout is None:
        return None
    _check_nodes(spec, rollout, nodes, mistakes)
    _check_times(spec, rollout, duration_ns, mistakes)
    _check_shares(rollout.phases, mistakes)
    floor = _triggers(rollout.floor, "failover.rollout.floor", mistakes)
    phases = tuple(
        RolloutPhase(
            traffic_ratio=one.traffic,
            hold_ns=one.hold,
            triggers=(
                *_triggers(one.triggers, f"failover.rollout.phases[{index}].triggers", mistakes),
                *floor,
            ),
        )
        for index, one in enumerate(rollout.phases)
    )
    for index, one in enumerate(rollout.phases):
        if not one.triggers and not rollout.floor:
            where = f"failover.rollout.phases[{index}].triggers"
            mistakes.add(where, "none", "triggers here, or failover.rollout.floor")
    return Rollout(
        to=rollout.to,
        phases=phases,
        every_ns=rollout.every,
        window_ns=rollout.window,
        sustain_ns=rollout.sustain,
        gap_ns=rollout.gap,
        metrics_path=rollout.path,
        timers=rollout.timers,
        ignore=rollout.ignore,
        timeout_ns=rollout.timeout,
    )


def _triggers(texts: Sequence[str], where: str, mistakes: Mistakes) -> list[Trigger]:
    found = [
        mistakes.attempt(f"{where}[{index}]", text, partial(parse_trigger, text))
        for index, text in enumerate(texts)
    ]
    return [one for one in found if one is not None]


def _check_nodes(
    spec: FailoverSpec, rollout: RolloutSpec, nodes: Sequence[FaultNode], mistakes: Mistakes
) -> None:
    """Two versions, and nodes that traffic can be moved between."""
    versions = tuple(dict.fromkeys(node.version for node in nodes if node.version))
    where = "failover.rollout.to"
    if nodes and rollout.to not in versions:
        expected = one_of(rollout.to, versions, "the versions of failover.nodes")
        mistakes.add(where, shown(rollout.to), expected)
    elif nodes and all(node.version == rollout.to for node in nodes):
        mistakes.add(where, "the version of every node", "nodes of another version to go back to")
    if spec.system is System.EMBEDDED:
        return
    if spec.haproxy is None:
        mistakes.add("failover.rollout", "a rollout", "[failover.haproxy] with its admin socket")
    for index, node in enumerate(nodes):
        if not node.servers:
            where = f"failover.nodes[{index}].servers"
            mistakes.add(where, "none", "its servers in HAProxy: traffic is moved by their weights")


def _check_times(
    spec: FailoverSpec, rollout: RolloutSpec, duration_ns: int, mistakes: Mistakes
) -> None:
    """Looks are oftener than what they decide, and all phases fit into the run."""
    for key in ("window", "sustain", "gap"):
        value = getattr(rollout, key)
        if value < rollout.every:
            expected = f"{format_duration(rollout.every)} or more: it is looked at so often"
            mistakes.add(f"failover.rollout.{key}", format_duration(value), expected)
    if rollout.every < 10**9:
        expected = "1 s or more"
        mistakes.add("failover.rollout.every", format_duration(rollout.every), expected)
    needed_ns = spec.steady_state.for_ + sum(one.hold for one in rollout.phases)
    if needed_ns >= duration_ns:
        seen = f"{format_duration(needed_ns)} with the steady state before"
        expected = f"phases that end before the run does at {format_duration(duration_ns)}"
        mistakes.add("failover.rollout.phases", seen, expected, rests_on=("stages",))


def _check_shares(phases: Sequence[RolloutPhaseSpec], mistakes: Mistakes) -> None:
    """Something, then more."""
    if not phases:
        mistakes.add("failover.rollout.phases", "none", "at least one [[failover.rollout.phases]]")
    before = 0.0
    for index, phase in enumerate(phases):
        if not before < phase.traffic <= 1:
            where = f"failover.rollout.phases[{index}].traffic"
            expected = f"more than the {before:.4g} of the phase before, at most 100 %"
            mistakes.add(where, f"{phase.traffic:.4g}", expected)
        before = max(before, phase.traffic)
