"""Stages of a scenario: levels resolved against baselines and scale, one after the other.

Levels are rates for open load and whole connections for closed load; the other kind is
refused. Stages follow each other without gap from T0 on. A stage is judged unless it is
a warm-up by name or says `judged = false`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.clock import NS_PER_MS
from loadtests.plan.decoding import key_of_field
from loadtests.plan.model import Hold, LoadModel, Profile, Ramp, Sine, Spike, Stage, Step
from loadtests.plan.objectives import RateReference, parse_rate
from loadtests.plan.spec import (
    HoldSpec,
    LoadSpec,
    RampSpec,
    SineSpec,
    SpikeSpec,
    StageSpec,
    StepSpec,
)
from loadtests.plan.units import HIGHEST_DURATION_NS, format_duration
from loadtests.plan.values import Mistakes, shown

SHORTEST_STAGE_NS: Final = 100 * NS_PER_MS
_LEVELS: Final = ("rate", "connections", "from_", "to", "base", "peak", "mean", "amplitude")


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How level texts become numbers: the load's model, its baselines, the run's scale."""

    load: LoadSpec
    reference: RateReference
    scale: float

    def value(self, level: object, where: str, mistakes: Mistakes) -> float:
        """Arrivals per second or connections, scaled; 0 with a mistake noted."""
        if self.load.model is LoadModel.CLOSED:
            if not isinstance(level, int):
                mistakes.add(where, shown(level), "a whole number of connections (closed load)")
                return 0.0
            return float(max(min(level, 1), round(level * self.scale)))
        if not isinstance(level, str):
            mistakes.add(where, shown(level), 'a rate such as "500 rps" or "150 %" (open load)')
            return 0.0
        rate = mistakes.attempt(where, level, lambda: parse_rate(level, self.reference))
        return (rate or 0.0) * self.scale


def _hold(spec: HoldSpec, where: str, levels: Levels, mistakes: Mistakes) -> Hold:
    is_closed = levels.load.model is LoadModel.CLOSED
    key = "connections" if is_closed else "rate"
    given: object = getattr(spec, key)
    default: object = getattr(levels.load, key)
    if (spec.rate if is_closed else spec.connections) is not None:
        mistakes.add(where, f"a level of the other load model beside {key}", f"only {key}")
    if given is None and default is None:
        mistakes.add(f"{where}.{key}", "nothing", f"{key} here or in [load]")
        return Hold(level=0.0)
    if given is None:
        return Hold(level=levels.value(default, f"load.{key}", mistakes))
    return Hold(level=levels.value(given, f"{where}.{key}", mistakes))


def _profile(spec: StageSpec, where: str, levels: Levels, mistakes: Mistakes) -> Profile:
    if isinstance(spec, HoldSpec):
        return _hold(spec, where, levels, mistakes)
    value = {
        name: levels.value(getattr(spec, name), f"{where}.{key_of_field(name)}", mistakes)
        for name in _LEVELS
        if hasattr(spec, name)
    }
    match spec:
        case RampSpec():
            return Ramp(start=value["from_"], end=value["to"])
        case StepSpec(steps=steps):
            return Step(start=value["from_"], end=value["to"], steps=steps)
        case SpikeSpec(peak_start=peak_start, peak_duration=peak_duration):
            return Spike(
                base=value["base"],
                peak=value["peak"],
                peak_start_ns=peak_start,
                peak_ns=peak_duration,
            )
        case SineSpec(period=period):
            return Sine(mean=value["mean"], amplitude=value["amplitude"], period_ns=period)


def _check(spec: StageSpec, profile: Profile, where: str, mistakes: Mistakes) -> None:
    """What concerns several keys of one stage."""
    match profile:
        case Step(steps=steps) if steps < 2 or spec.duration // steps < SHORTEST_STAGE_NS:  # noqa: PLR2004 - one level is no step
            mistakes.add(f"{where}.steps", str(steps), "2 or more steps of at least 100 ms")
        case Spike(peak_start_ns=start, peak_ns=length) if start + length > spec.duration:
            mistakes.add(
                where,
                f"a peak that ends at {format_duration(start + length)}",
                f"one inside the stage's {format_duration(spec.duration)}",
            )
        case Spike(peak_ns=0):
            mistakes.add(f"{where}.peak_duration", "0", "a duration above 0")
        case Sine(amplitude=amplitude, mean=mean) if amplitude > mean:
            mistakes.add(f"{where}.amplitude", f"{amplitude:g}", f"at most the mean, {mean:g}")
        case Sine(period_ns=period_ns) if period_ns < SHORTEST_STAGE_NS:
            mistakes.add(f"{where}.period", format_duration(period_ns), "at least 100 ms")
        case _:
            pass


def peak_level(profile: Profile) -> float:
    """The highest level of a profile."""
    match profile:
        case Hold(level=level):
            return level
        case Ramp(start=start, end=end) | Step(start=start, end=end):
            return max(start, end)
        case Spike(base=base, peak=peak):
            return max(base, peak)
        case Sine(mean=mean, amplitude=amplitude):
            return mean + amplitude


def build_stages(
    specs: Sequence[StageSpec | None],
    levels: Levels,
    known_names: Collection[str],
    mistakes: Mistakes,
) -> tuple[Stage, ...]:
    """All stages from T0 on; a None among the specs is a mistake already noted."""
    stages: list[Stage] = []
    start_ns = 0
    for index, spec in enumerate(specs):
        if spec is None:
            continue
        where = f"stages[{index}]"
        if spec.duration < SHORTEST_STAGE_NS:
            seen, shortest = format_duration(spec.duration), format_duration(SHORTEST_STAGE_NS)
            mistakes.add(f"{where}.duration", seen, f"at least {shortest}")
        before = len(mistakes.found)
        profile = _profile(spec, where, levels, mistakes)
        if len(mistakes.found) == before:
            _check(spec, profile, where, mistakes)
        is_judged = spec.judged and spec.name not in levels.load.warm_up
        if is_judged and len(mistakes.found) == before and peak_level(profile) == 0:
            mistakes.add(where, "no load at all", "load, or judged = false")
        end_ns = start_ns + spec.duration
        stages.append(
            Stage(
                name=spec.name,
                start_ns=start_ns,
                end_ns=end_ns,
                profile=profile,
                is_judged=is_judged,
            )
        )
        start_ns = end_ns
    if start_ns > HIGHEST_DURATION_NS:
        mistakes.add("stages", format_duration(start_ns) + " in all", "at most a week")
    for index, name in enumerate(levels.load.warm_up):
        if name not in known_names:
            mistakes.add(f"load.warm_up[{index}]", shown(name), "the name of a stage")
    if None not in specs and stages and not any(stage.is_judged for stage in stages):
        mistakes.add("stages", "only warm-up", "a stage that is judged")
    return tuple(stages)
