"""Who holds which share, what became of it, and the books at the end.

Every arrival of the plan is held by exactly one engine at any time. When an engine is
lost, its shares are *cut*: until then they were its own, from then on survivors hold the
parts (`redistribute`) or nobody does. What was due to an engine and is in no window that
it handed over is listed as lost: to the arrival, from the schedule's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from loadtests.clock import NS_PER_S
from loadtests.plan.model import Share
from loadtests.record.manifest import LostWindow

# `plan.schedule.Schedule(plan).planned`: arrivals of a share in [from_ns, to_ns) from T0.
PlannedCount = Callable[[Share, int, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """An engine was lost; offsets are ns from T0.

    `last_ns` is the last time it is known to have worked, `free_ns` the first at which it
    cannot send any more (the lease of an agent that went silent ends later than a run that
    is aborted), `cut_ns` when survivors take over, None when nobody does.
    """

    how: str
    last_ns: int
    free_ns: int
    cut_ns: int | None


@dataclass(slots=True, kw_only=True)
class Holding:
    """What engine `index` holds."""

    index: int
    engine: str
    incarnation: str  # of its agent
    shares: list[Share] = field(default_factory=list)
    loss: Loss | None = None

    def due(self, planned: PlannedCount, to_ns: int) -> int:
        """Arrivals of its shares before an offset."""
        return sum(planned(share, 0, to_ns) for share in self.shares)

    def cut_end_ns(self, end_ns: int) -> int:
        """Until when the shares were its own, in a run that ended at `end_ns`."""
        if self.loss is None or self.loss.cut_ns is None:
            return end_ns
        return min(end_ns, self.loss.cut_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A survivor's part of a lost share."""

    index: int
    share: Share


def divide(lost: Holding, survivors: Iterable[Holding], from_ns: int) -> list[Part]:
    """Split every share of a lost engine between the survivors, from `from_ns` on."""
    heirs = sorted(survivors, key=lambda holding: holding.index)
    return [
        Part(index=heir.index, share=part)
        for share in lost.shares
        for heir, part in zip(
            heirs, share.split(len(heirs), max(from_ns, share.from_ns)), strict=True
        )
    ]


def lost_windows(
    holding: Holding,
    *,
    counted: int,
    through_s: int | None,
    t0_unix_ns: int,
    end_ns: int,
    planned: PlannedCount,
) -> list[LostWindow]:
    """Stretches of a lost engine: not handed over (until it was last known to work), not sent.

    `counted` arrivals are in windows that it handed over, the last of them labelled
    `through_s`. The planned arrivals of both add up to what was due and is in no window.
    """
    if holding.loss is None:
        return []
    end_ns = holding.cut_end_ns(end_ns)
    last_ns = min(max(holding.loss.last_ns, 0), end_ns)
    due_last, due_end = holding.due(planned, last_ns), holding.due(planned, end_ns)
    first_s = t0_unix_ns // NS_PER_S if through_s is None else through_s + 1
    middle_s = max(first_s, _ceil_s(t0_unix_ns + last_ns))
    end_s = max(middle_s, _ceil_s(t0_unix_ns + end_ns))
    unreported = max(0, due_last - counted)
    unsent = max(0, due_end - max(due_last, counted))
    # Rounded to seconds both stretches may start before what they lost; never later.
    stretches = [(first_s, middle_s, unreported), (middle_s, end_s, unsent)]
    if middle_s == end_s:  # both ended in the same second: one stretch, not a later second one
        stretches = [(min(first_s, end_s - 1), end_s, unreported + unsent)]
    found = [
        LostWindow(who=holding.engine, from_s=start_s, to_s=max(stop_s, start_s + 1), planned=lost)
        for start_s, stop_s, lost in stretches
        if lost > 0
    ]
    if not found and last_ns < end_ns:
        # Nothing planned is missing (closed load plans nothing; or it came back after all and
        # handed everything over), but under load it was given up: that is said all the same.
        given_up_s = (t0_unix_ns + last_ns) // NS_PER_S
        stop_s = max(end_s, given_up_s + 1) if first_s <= given_up_s else given_up_s + 1
        found = [LostWindow(who=holding.engine, from_s=given_up_s, to_s=stop_s, planned=0)]
    return found


def _ceil_s(unix_ns: int) -> int:
    return -(-unix_ns // NS_PER_S)
