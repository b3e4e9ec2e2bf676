"""What a capacity search may try: which stage, which rates, and the plan of each trial.

Every mistake of the command line and the scenario is reported at once, before anything is
sent. The highest rate is the lowest of what the user, the scenario's `target.max_rate`, the
authorisation of the target and the calibrated generator allow.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from analysis.capacity.search.outcome import P99
from analysis.text import rate as rate_text
from loadtests.clock import NS_PER_S
from loadtests.commands.calibration import load_costs
from loadtests.commands.preparation import load_here
from loadtests.commands.terminal import Terminal
from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.authorisation import authorised_per_s
from loadtests.plan.engines import highest_per_s
from loadtests.plan.host import host_limits, own_configuration
from loadtests.plan.model import LoadModel, Objective, Plan, Stage
from loadtests.plan.objectives import required_for, required_samples
from loadtests.plan.resolve import HIGHEST_SCALE, HIGHEST_SEED
from loadtests.plan.scenario import ScenarioFile, resolve
from loadtests.plan.stages import peak_level
from loadtests.plan.trial import trial_plan

HIGHEST_BY_DEFAULT: Final = 2.0  # of the stage's rate
LOWEST_BY_DEFAULT: Final = 0.01  # of the highest rate
_SPARE: Final = 1.1  # samples: a mix of requests scatters


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The scenario at scale 1, the stage that is searched, and the length of a trial."""

    scenario: ScenarioFile
    base: Plan
    stage: Stage
    targets: tuple[str, ...]
    warm_up_ns: int
    trial_ns: int
    authorised_per_s: float

    @property
    def peak_per_s(self) -> float:
        """The stage's own rate."""
        return peak_level(self.stage.profile)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Those that a trial has to hold."""
        return tuple(o for o in self.base.objectives if o.stage in {None, self.stage.name})

    def whole_at(self, rate_per_s: float, seed: int) -> Plan:
        """The whole scenario, scaled so that its stage has this rate."""
        scale = rate_per_s / self.peak_per_s
        return resolve(self.scenario, scale=scale, seed=seed, targets=self.targets)

    def plan_at(self, rate_per_s: float, number: int) -> Plan:
        """The plan of trial `number`: the scenario scaled to this rate, with a seed of its own."""
        plan = self.whole_at(rate_per_s, (self.base.seed + number) % HIGHEST_SEED)
        stage = next(stage for stage in plan.stages if stage.name == self.stage.name)
        return trial_plan(
            plan,
            stage,
            rate_per_s,
            warm_up_ns=self.warm_up_ns,
            trial_ns=self.trial_ns,
            ceiling=self.authorised_per_s,
        )


def build_space(arguments: argparse.Namespace) -> Space:
    """The space of a command line; ScenarioError with all mistakes, TargetError if not allowed."""
    scenario = load_here(arguments.scenario, arguments.target)
    base = resolve(scenario, scale=1.0, seed=arguments.seed, targets=arguments.target)
    mistakes: list[Mistake] = []
    stage = _stage_of(base, arguments.stage, mistakes)
    if base.load_model is LoadModel.CLOSED:
        expected = 'load.model = "open": closed load has no rate that could be searched'
        mistakes.append(Mistake(where="load.model", seen="closed load", expected=expected))
    if not any(o.stage in {None, stage.name} for o in base.objectives):
        expected = f"an objective that stage {stage.name} can hold or miss"
        mistakes.append(Mistake(where="criteria.objectives", seen="none", expected=expected))
    if mistakes:
        raise ScenarioError(str(arguments.scenario), tuple(mistakes))
    return Space(
        scenario=scenario,
        base=base,
        stage=stage,
        targets=tuple(arguments.target),
        warm_up_ns=round(arguments.warm_up * NS_PER_S),
        trial_ns=round(arguments.trial_duration * NS_PER_S),
        authorised_per_s=authorised_per_s(base, own_configuration(), datetime.now(tz=UTC)),
    )


def _stage_of(plan: Plan, name: str | None, mistakes: list[Mistake]) -> Stage:
    """The judged stage whose objectives are searched for."""
    judged = [stage for stage in plan.stages if stage.is_judged]
    found = [stage for stage in judged if name in {None, stage.name}]
    if len(found) == 1:
        return found[0]
    seen = f"{len(judged)} judged stages" if name is None else f"{name!r}"
    expected = "one of: " + ", ".join(stage.name for stage in judged)
    mistakes.append(Mistake(where="--stage", seen=seen, expected=expected))
    return judged[0]


def rates_of(
    space: Space, arguments: argparse.Namespace, engines: int, terminal: Terminal
) -> tuple[float, float]:
    """Lowest and highest rate to try; ScenarioError when what was asked for is not allowed."""
    own = space.peak_per_s * arguments.scale
    asked = arguments.max_rate or own * HIGHEST_BY_DEFAULT
    limits = _limits(space)
    allowed, why = min(limits, default=(math.inf, ""))
    mistakes = []
    if arguments.max_rate is not None and asked > allowed * (1 + 1e-9):
        mistakes.append(_too_high(asked, allowed, why))
    highest = _within_generator(space, min(asked, allowed), engines, terminal)
    measurable = _least_measurable_per_s(space, arguments)
    lowest = arguments.min_rate or max(highest * LOWEST_BY_DEFAULT, measurable)
    if lowest < measurable * (1 - 1e-9):
        expected = (
            f"{rate_text(measurable)} or more, or a longer --trial-duration: the percentiles need "
            "their samples"
        )
        mistakes.append(Mistake(where="--min-rate", seen=f"{lowest:g}", expected=expected))
    if lowest >= highest:
        seen = f"rates from {rate_text(lowest)} to {rate_text(highest)}"
        expected = "a --max-rate above the lowest rate that can be measured"
        mistakes.append(Mistake(where="--min-rate, --max-rate", seen=seen, expected=expected))
    if mistakes:
        raise ScenarioError(str(arguments.scenario), tuple(mistakes))
    return lowest, highest


def _too_high(asked: float, allowed: float, why: str) -> Mistake:
    expected = f"at most {rate_text(allowed)} ({why})"
    return Mistake(where="--max-rate", seen=f"{asked:g}", expected=expected)


def _limits(space: Space) -> list[tuple[float, str]]:
    """Rates that may not be passed, with their reasons."""
    limits = [(space.peak_per_s * HIGHEST_SCALE, f"{HIGHEST_SCALE:g} times the scenario's rate")]
    guard = space.scenario.document.target.max_rate
    if guard is not None:
        # The guard is held against the highest stage, which scales with the one searched.
        highest = max(peak_level(stage.profile) for stage in space.base.stages)
        limits.append((guard * space.peak_per_s / highest, "target.max_rate of the scenario"))
    if math.isfinite(space.authorised_per_s):
        limits.append((space.authorised_per_s, "what the target's owner authorised"))
    return limits


def _within_generator(space: Space, highest: float, engines: int, terminal: Terminal) -> float:
    """The highest rate that the calibrated generator can make; said where that is less."""
    cores = host_limits().cores
    possible = highest_per_s(space.base, load_costs(), cores=cores, engines=engines)
    if possible is None or possible >= highest:
        return highest
    terminal.say(
        f"warning: calibrated here, {engines} engines make at most {rate_text(possible)} "
        f"requests/s; the search goes no higher, {rate_text(highest)} would be allowed"
    )
    return possible


def _least_measurable_per_s(space: Space, arguments: argparse.Namespace) -> float:
    """The rate below which a trial has too few samples for what it is to judge."""
    weights = {request.name: request.weight for request in space.base.requests}
    total = sum(weights.values())
    needed = [
        required_for(o) * (1.0 if o.request is None else total / weights[o.request])
        for o in space.objectives
    ]
    if arguments.critical:
        needed.append(required_samples(P99))
    trial_s: float = arguments.trial_duration
    return max(needed) * _SPARE / trial_s
