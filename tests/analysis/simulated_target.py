"""A target of known limit, for searches that take no time.

A queue with one server and exponential service (M/M/1): at rate r and capacity K its response
times are exponential with mean S / (1 - r/K), S the mean service time; at or above K the
queue grows for the whole trial. Two noises, both of them seen in practice:

- *capacity noise*: K is drawn anew for each trial, with median `capacity_per_s`;
- *sampling noise*: the percentile of n = rate * seconds responses is not that of the
  distribution. The k-th smallest of n exponentials is -mean * ln(1 - U), U ~ Beta(k, n - k + 1).

The *truth* of a limit on p99 is the rate that meets it exactly at the median capacity, seen
through infinitely many samples: K * (1 - S * ln(100) / limit).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.capacity.search.decide import Ending, Step, decide
from analysis.capacity.search.settings import CRITICAL_NS, Settings
from analysis.capacity.search.trials import Purpose, Trial, TrialState

LIMIT_NS = 200_000_000
SERVICE_NS = 2_000_000.0
Noise = Callable[[np.random.Generator], float]  # median 0, in standard deviations
NOISES: dict[str, Noise] = {
    "normal": lambda random: random.normal(),
    "laplace": lambda random: random.laplace(0, 0.5**0.5),
    "uniform": lambda random: random.uniform(-(3**0.5), 3**0.5),
    "skewed": lambda random: -(random.gamma(2, 1) - 1.678347) / 2**0.5,
    "accidents": lambda random: -8.0 if random.random() < 0.05 else random.normal(),
}


@dataclass(slots=True, kw_only=True)
class SimulatedTarget:
    """One target; `trial` is a run of it, as the runner would report it."""

    capacity_per_s: float
    noise_ratio: float
    random: np.random.Generator
    shape: str = "normal"
    generator_per_s: float = math.inf  # above it the generator is the limit
    void_ratio: float = 0.0  # of trials that are void for no reason of their rate
    ill_trials: int = 0  # after an overload it misses everything for so many trials
    loss_ratio: float = 0.0  # of its capacity, lost with each trial
    seconds: float = 10.0
    _ill_left: int = field(default=0, init=False)
    _trials: int = field(default=0, init=False)

    def truth_per_s(self, limit_ns: float = LIMIT_NS) -> float:
        """The limit that a search is to find."""
        return self.capacity_per_s * (1 - SERVICE_NS * math.log(100) / limit_ns)

    def _quantile_ns(self, quantile: float, mean_ns: float, n: int) -> float:
        rank = math.ceil(quantile * n)
        return -mean_ns * math.log1p(-self.random.beta(rank, n - rank + 1))

    def trial(self, step: Step, number: int) -> Trial:
        """Measure at a rate."""
        noise = self.noise_ratio * NOISES[self.shape](self.random)
        capacity = self.capacity_per_s * (1 + noise) * (1 - self.loss_ratio) ** self._trials
        self._trials += 1
        is_void = step.rate_per_s > self.generator_per_s or self.random.random() < self.void_ratio
        if self._ill_left:
            self._ill_left -= 1
            capacity = 0.05 * self.capacity_per_s
        elif step.rate_per_s >= capacity:
            self._ill_left = self.ill_trials
        if step.rate_per_s < 0.999 * capacity:
            mean_ns = SERVICE_NS / (1 - step.rate_per_s / capacity)
        else:
            mean_ns = 1e12
        p99 = self._quantile_ns(0.99, mean_ns, int(step.rate_per_s * self.seconds))
        return trial(
            step,
            number,
            p99_ns=p99,
            is_void=is_void,
            goodput_per_s=min(step.rate_per_s, capacity),
            judged_s=self.seconds,
        )


def trial(
    step: Step,
    number: int,
    *,
    p99_ns: float,
    is_void: bool = False,
    goodput_per_s: float | None = None,
    judged_s: float = 10.0,
) -> Trial:
    """A trial of a step with this p99, held against all goals."""
    limits = {goal.name: goal.limit_ns or LIMIT_NS for goal in settings().goals}
    states = {
        name: TrialState.VOID
        if is_void
        else (TrialState.HELD if p99_ns <= limit else TrialState.MISSED)
        for name, limit in limits.items()
    }
    return Trial(
        number=number,
        purpose=step.purpose,
        rate_per_s=step.rate_per_s,
        judged_s=judged_s,
        states=states,
        reason="generator-limited: send lag" if is_void else "",
        is_generator_limited=is_void,
        run_id=f"20261126T000000Z_simulated_{number:08x}",
        p95_ns=None,
        p99_ns=p99_ns,
        error_ratio=0.0,
        goodput_per_s=goodput_per_s,
    )


def settings(**changes: object) -> Settings:
    """A search from 100 to 10,000 requests/s; `changes` replace fields."""
    fields: dict[str, object] = {
        "min_per_s": 100.0,
        "max_per_s": 10_000.0,
        "precision_ratio": 0.05,
        "trial_s": 10.0,
        "max_trials": 25,
        "settle_s": 1.0,
        "critical_ns": CRITICAL_NS,
    }
    return Settings(**{**fields, **changes})  # type: ignore[arg-type]  # typed by Settings itself


def search(target: SimulatedTarget, asked: Settings) -> tuple[tuple[Trial, ...], Ending]:
    """A whole search: the loop of the runner, without the runs."""
    trials: list[Trial] = []
    while True:
        step = decide(asked, trials)
        if isinstance(step, Ending):
            return tuple(trials), step
        trials.append(target.trial(step, len(trials) + 1))


def probe(rate_per_s: float) -> Step:
    """A step that looks for the limit."""
    return Step(rate_per_s=rate_per_s, purpose=Purpose.PROBE, pause_s=0.0)


def targets(
    count: int, noise_ratio: float, seed: int, **changes: object
) -> Sequence[SimulatedTarget]:
    """Targets of random capacity (600 to 8,000 requests/s, log-uniform), each with its seed."""
    made = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        capacity = math.exp(random.uniform(math.log(600), math.log(8000)))
        made.append(
            SimulatedTarget(
                capacity_per_s=capacity,
                noise_ratio=noise_ratio,
                random=random,
                **changes,  # type: ignore[arg-type]  # typed by the class itself
            )
        )
    return made
