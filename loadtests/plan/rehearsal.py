"""A profile in short: the same rates, objectives and mix, with every stage cut to a length.

The target's own metrics are read the more often, so that a short stage has enough of them.

A rehearsal has a name of its own, so that its archive, its verdict and its baseline can
never be taken for the profile's.
"""

from __future__ import annotations

import dataclasses

import msgspec

from loadtests.plan.model import Plan, Profile, Sine, Spike, Stage
from loadtests.plan.scraping import hastened


def _squeezed(profile: Profile, ratio: float) -> Profile:
    """The same shape in `ratio` (0-1) of the time."""
    match profile:
        case Spike():
            return msgspec.structs.replace(
                profile,
                peak_start_ns=round(profile.peak_start_ns * ratio),
                peak_ns=round(profile.peak_ns * ratio),
            )
        case Sine():
            period_ns = max(1, round(profile.period_ns * ratio))
            return msgspec.structs.replace(profile, period_ns=period_ns)
        case _:
            return profile


def rehearse_failover(
    plan: Plan, *, warm_up_ns: int, before_ns: int, steady_ns: int, down_ns: int, after_ns: int
) -> Plan:
    """A failover in short: faults keep their distance from the begin of the last stage.

    That stage is cut to `after_ns`, what a fault lasts to `down_ns`, the steady state that is
    asked for to `steady_ns`. The 30 s in which objectives must hold again are not cut: they
    have to fit into `after_ns`.
    """
    assert plan.failover is not None, "a plan with faults"
    last, faults = plan.stages[-1], plan.failover.faults
    earlier = dataclasses.replace(plan, stages=plan.stages[:-1])
    cut = rehearse(earlier, warm_up_ns=warm_up_ns, stage_ns=before_ns)
    start_ns = cut.stages[-1].end_ns
    end_ns = start_ns + min(last.end_ns - last.start_ns, after_ns)
    sooner_ns = last.start_ns - start_ns
    steady = plan.failover.steady
    failover = dataclasses.replace(
        plan.failover,
        steady=dataclasses.replace(steady, hold_ns=min(steady.hold_ns, steady_ns)),
        faults=tuple(
            dataclasses.replace(
                fault,
                at_ns=fault.at_ns - (sooner_ns if fault.after is None else 0),
                undo_after_ns=fault.undo_after_ns and min(fault.undo_after_ns, down_ns),
            )
            for fault in faults
        ),
    )
    stages = (*cut.stages, dataclasses.replace(last, start_ns=start_ns, end_ns=end_ns))
    return dataclasses.replace(cut, stages=stages, failover=failover)


def rehearse(plan: Plan, *, warm_up_ns: int, stage_ns: int) -> Plan:
    """Cut stages longer than `stage_ns` (`warm_up_ns` for those not judged) to that length."""
    stages: list[Stage] = []
    start_ns = 0
    for stage in plan.stages:
        length_ns = stage.end_ns - stage.start_ns
        cut_ns = min(length_ns, stage_ns if stage.is_judged else warm_up_ns)
        profile = _squeezed(stage.profile, cut_ns / length_ns)
        end_ns = start_ns + cut_ns
        stages.append(dataclasses.replace(stage, start_ns=start_ns, end_ns=end_ns, profile=profile))
        start_ns = end_ns
    return dataclasses.replace(
        plan,
        scenario_name=f"{plan.scenario_name}-rehearsal",
        description=f"Rehearsal, stages cut short. {plan.description}",
        stages=tuple(stages),
        scraping=hastened(plan.scraping, stage_ns),
    )
