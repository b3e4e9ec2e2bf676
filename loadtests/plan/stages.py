"""Stages of a scenario: levels resolved against baselines and scale, one after the other.

Levels are rates for open load and whole connections for closed load; the other kind is
refused. Stages follow each other without gap from T0 on. A stage is judged unless it is
a warm-up by name or says `judged = false`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    ShapelessSpec,
    SineSpec,
    SpikeSpec,
    StageSpec,
    StepSpec,
)
from loadtests.plan.units import HIGHEST_DURATION_NS, UnitError, format_duration
from loadtests.plan.values import Mistakes, can_name, shown

SHORTEST_STAGE_NS: Final = 100 * NS_PER_MS
_LEVELS: Final = ("rate", "connections", "from_", "to", "base", "peak", "mean", "amplitude")


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How level texts become numbers: the load's model, its baselines, the run's scale."""

    load: LoadSpec
    reference: RateReference
    scale: float

    def value(self, level: object, where: str, mistakes: Mistakes) -> float | None:
        """Arrivals per second or connections, scaled; None with a mistake noted."""
        return mistakes.attempt(where, level, lambda: self._number(level))

    def _number(self, level: object) -> float:
        if self.load.model is LoadModel.CLOSED:
            if not isinstance(level, int):
                expected = "a whole number of connections (closed load)"
                raise UnitError(expected, rests_on=("load.model",))
            return float(max(min(level, 1), round(level * self.scale)))
        if not isinstance(level, str):
            expected = 'a rate such as "500 rps" or "150 %" (open load)'
            raise UnitError(expected, rests_on=("load.model",))
        return parse_rate(level, self.reference) * self.scale


def _hold_level(spec: HoldSpec, where: str, levels: Levels, mistakes: Mistakes) -> float | None:
    is_closed = levels.load.model is LoadModel.CLOSED
    key = "connections" if is_closed else "rate"
    given: object = getattr(spec, key)
    default: object = getattr(levels.load, key)
    if (spec.rate if is_closed else spec.connections) is not None:
        seen = f"a level of the other load model beside {key}"
        mistakes.add(where, seen, f"only {key}", rests_on=("load.model",))
    if given is not None:
        return levels.value(given, f"{where}.{key}", mistakes)
    if default is not None:
        return levels.value(default, f"load.{key}", mistakes)
    expected = f"{key} here or in [load]"
    mistakes.add(f"{where}.{key}", "nothing", expected, rests_on=("load.model",))
    return None


def _level_values(
    spec: StageSpec, where: str, levels: Levels, mistakes: Mistakes
) -> dict[str, float | None]:
    """The levels of a stage by their fields; what is not known is None."""
    if isinstance(spec, HoldSpec):
        return {"level": _hold_level(spec, where, levels, mistakes)}
    given = {name: getattr(spec, name) for name in _LEVELS if hasattr(spec, name)}
    return {
        name: levels.value(level, f"{where}.{key_of_field(name)}", mistakes)
        for name, level in given.items()
        if level is not None
    }


def _profile(spec: StageSpec, value: Mapping[str, float]) -> Profile:
    match spec:
        case HoldSpec():
            return Hold(level=value["level"])
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
        case ShapelessSpec():
            return Hold(level=max(value.values(), default=0.0))


def _check_times(spec: StageSpec, where: str, mistakes: Mistakes) -> None:
    """What the durations of one stage say about each other."""
    duration = f"{where}.duration"
    if spec.duration < SHORTEST_STAGE_NS:
        seen, shortest = format_duration(spec.duration), format_duration(SHORTEST_STAGE_NS)
        mistakes.add(duration, seen, f"at least {shortest}")
    match spec:
        case StepSpec(steps=steps) if steps < 2 or spec.duration // steps < SHORTEST_STAGE_NS:  # noqa: PLR2004 - one level is no step
            expected = "2 or more steps of at least 100 ms"
            rests_on = (duration,) if steps > 1 else ()
            mistakes.add(f"{where}.steps", str(steps), expected, rests_on=rests_on)
        case SpikeSpec(peak_duration=0):
            mistakes.add(f"{where}.peak_duration", "0", "a duration above 0")
        case SpikeSpec(peak_start=start, peak_duration=length) if start + length > spec.duration:
            seen = f"a peak that ends at {format_duration(start + length)}"
            expected = f"one inside the stage's {format_duration(spec.duration)}"
            mistakes.add(where, seen, expected, rests_on=(duration,))
        case SineSpec(period=period_ns) if period_ns < SHORTEST_STAGE_NS:
            mistakes.add(f"{where}.period", format_duration(period_ns), "at least 100 ms")
        case _:
            pass


def _check_levels(profile: Profile, where: str, *, is_judged: bool, mistakes: Mistakes) -> None:
    """What the levels of one stage say, all of them known."""
    match profile:
        case Sine(amplitude=amplitude, mean=mean) if amplitude > mean:
            mistakes.add(f"{where}.amplitude", f"{amplitude:g}", f"at most the mean, {mean:g}")
        case _ if is_judged and peak_level(profile) == 0:
            rests_on = (f"{where}.judged", f"{where}.name", "load.warm_up")
            mistakes.add(where, "no load at all", "load, or judged = false", rests_on=rests_on)
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


def _build_stage(
    spec: StageSpec, start_ns: int, where: str, levels: Levels, mistakes: Mistakes
) -> Stage:
    _check_times(spec, where, mistakes)
    found = _level_values(spec, where, levels, mistakes)
    # A level that is not known counts as none at all: what is known is the least there is.
    profile = _profile(spec, {name: level or 0.0 for name, level in found.items()})
    is_judged = spec.judged and spec.name not in levels.load.warm_up
    if None not in found.values() and not isinstance(spec, ShapelessSpec):
        _check_levels(profile, where, is_judged=is_judged, mistakes=mistakes)
    return Stage(
        name=spec.name,
        start_ns=start_ns,
        end_ns=start_ns + spec.duration,
        profile=profile,
        is_judged=is_judged,
    )


def build_stages(
    specs: Sequence[StageSpec],
    levels: Levels,
    known_names: Collection[str],
    mistakes: Mistakes,
) -> tuple[Stage, ...]:
    """All stages from T0 on."""
    stages: list[Stage] = []
    end_ns = 0
    for index, spec in enumerate(specs):
        stages.append(_build_stage(spec, end_ns, f"stages[{index}]", levels, mistakes))
        end_ns = stages[-1].end_ns
    if end_ns > HIGHEST_DURATION_NS:
        mistakes.add("stages", format_duration(end_ns) + " in all", "at most a week")
    for index, name in enumerate(levels.load.warm_up):
        if not can_name(name, known_names):
            where = f"load.warm_up[{index}]"
            mistakes.add(where, shown(name), "the name of a stage", rests_on=("stages",))
    if stages and not any(stage.is_judged for stage in stages):
        mistakes.add("stages", "only warm-up", "a stage that is judged")
    return tuple(stages)
