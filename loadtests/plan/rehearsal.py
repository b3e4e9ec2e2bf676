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
