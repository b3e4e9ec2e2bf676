"""From the file of a nightly plan to a plan: every mistake at once, also of its scenarios.

version, name
at            "01:30", UTC: when a night begins; catch_up = "12 h": how late it still may
retries, overdue
[budget]      time, cost, cost_per_hour, beside
[host_check]  cpu, loopback, disk_sync        [retention]  nights
[[authorised]], [[quiet]]  from, to, days, zone
[upload]      command, timeout                [notify]     variables, on
[[steps]]     name, do ("run", "compare", "trend"), scenario, arguments, days, required
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from loadtests.errors import Mistake, ScenarioError
from loadtests.nightly.budget import Budget
from loadtests.nightly.canary import HostLimits
from loadtests.nightly.spec import (
    NightlySpec,
    NotifySpec,
    StepKind,
    StepSpec,
    UploadSpec,
    WindowSpec,
)
from loadtests.nightly.windows import EVERY_DAY, Window, parse_days, parse_minute
from loadtests.plan.attachments import read_text
from loadtests.plan.decoding import decode
from loadtests.plan.spec import MIB
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes

MOST_RETRIES: Final = 5
PLACEHOLDERS: Final = ("{results}", "{night}", "{record}")

# Of a scenario with arguments of `headroom run`, in ns: its load with its drain, and how long it
# may wait for its workers before.
LengthOf = Callable[[Path, Sequence[str]], tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; `scenario` of a run alone, the lengths 0 of the others."""

    name: str
    kind: StepKind
    scenario: Path | None
    arguments: tuple[str, ...]
    days: frozenset[int]  # of the night; 0 is Monday
    is_required: bool
    length_ns: int
    join_wait_ns: int = 0

    @property
    def most_ns(self) -> int:
        """From its beginning to its last answer, when its workers come as late as they may."""
        return self.join_wait_ns + self.length_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class NightPlan:
    """The plan of every night."""

    path: Path
    name: str
    at_minute: int
    catch_up_ns: int
    retries: int
    overdue_ns: int
    steps: tuple[Step, ...]
    budget: Budget
    host_limits: HostLimits
    authorised: tuple[Window, ...]
    quiet: tuple[Window, ...]
    retention_nights: int | None
    upload: UploadSpec | None
    notify: NotifySpec | None


def load_nightly(path: Path, length_of: LengthOf) -> NightPlan:
    """Read a plan; ScenarioError with all mistakes, those of its scenarios included."""
    mistakes = Mistakes()
    text = read_text(path, MIB, "file", mistakes)
    raw: object = {}
    try:
        raw = tomllib.loads(text or "")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        mistakes.add("file", str(error), "TOML")
    if not mistakes.found:
        plan = _build(decode(NightlySpec, raw, "", mistakes), path, length_of, mistakes)
    if mistakes.found:
        raise ScenarioError(str(path), tuple(mistakes.found))
    return plan


def _build(spec: NightlySpec, path: Path, length_of: LengthOf, mistakes: Mistakes) -> NightPlan:
    _check(spec, mistakes)
    budget = Budget(
        time_ns=spec.budget.time,
        most_cost=spec.budget.cost,
        cost_per_hour=spec.budget.cost_per_hour or 0.0,
        beside_ns=spec.budget.beside,
    )
    limits = spec.host_check
    return NightPlan(
        path=path,
        name=spec.name,
        at_minute=mistakes.attempt("at", spec.at, lambda: parse_minute(spec.at)) or 0,
        catch_up_ns=spec.catch_up,
        retries=spec.retries,
        overdue_ns=spec.overdue,
        steps=tuple(
            _step(step, f"steps[{number}]", path.parent, length_of, mistakes)
            for number, step in enumerate(spec.steps)
        ),
        budget=budget,
        host_limits=HostLimits(
            cpu_ratio=limits.cpu,
            loopback_ratio=limits.loopback,
            disk_sync_ratio=limits.disk_sync,
        ),
        authorised=_windows("authorised", spec.authorised, mistakes),
        quiet=_windows("quiet", spec.quiet, mistakes),
        retention_nights=None if spec.retention is None else spec.retention.nights,
        upload=spec.upload,
        notify=spec.notify,
    )


def _check(spec: NightlySpec, mistakes: Mistakes) -> None:
    """What values alone do not say."""
    if spec.retries > MOST_RETRIES:
        mistakes.add("retries", str(spec.retries), f"0 to {MOST_RETRIES}")
    if not any(step.do is StepKind.RUN for step in spec.steps):
        mistakes.add("steps", "no run", 'a step with a scenario (do = "run" is the default)')
    for name, number in Counter(step.name for step in spec.steps).items():
        if number > 1:
            mistakes.add("steps", f'"{name}" {number} times', "steps with names of their own")
    budget = spec.budget
    if (budget.cost is None) != (budget.cost_per_hour is None):
        expected = "cost and cost_per_hour, or neither: one says nothing without the other"
        mistakes.add("budget.cost", "one of them", expected)
    if spec.upload is not None and not spec.upload.command:
        mistakes.add("upload.command", "nothing", 'a command, such as ["rsync", "-a", "{results}"]')
    for number, variable in enumerate(() if spec.notify is None else spec.notify.variables):
        if not variable.isidentifier():
            expected = "the name of an environment variable that holds the URLs, never a URL"
            mistakes.add(f"notify.variables[{number}]", "something else", expected)


def _step(
    spec: StepSpec, where: str, folder: Path, length_of: LengthOf, mistakes: Mistakes
) -> Step:
    days = mistakes.attempt(f"{where}.days", ", ".join(spec.days), lambda: parse_days(spec.days))
    scenario, length_ns, join_wait_ns = None, 0, 0
    if spec.do is StepKind.RUN and spec.scenario is None:
        mistakes.add(f"{where}.scenario", "nothing", "the file of a scenario to run")
    elif spec.do is not StepKind.RUN and (spec.scenario or spec.arguments):
        expected = f'nothing: do = "{spec.do.value}" is about the runs of the night'
        mistakes.add(f"{where}.scenario", "a scenario or arguments", expected)
    elif spec.scenario is not None:
        scenario = folder / spec.scenario
        lengths = _lengths(scenario, spec.arguments, where, length_of, mistakes)
        length_ns, join_wait_ns = lengths
    return Step(
        name=spec.name,
        kind=spec.do,
        scenario=scenario,
        arguments=spec.arguments,
        days=days or EVERY_DAY,
        is_required=spec.required,
        length_ns=length_ns,
        join_wait_ns=join_wait_ns,
    )


def _lengths(
    scenario: Path,
    arguments: Sequence[str],
    where: str,
    length_of: LengthOf,
    mistakes: Mistakes,
) -> tuple[int, int]:
    try:
        return length_of(scenario, arguments)
    except ScenarioError as error:
        for one in error.mistakes:
            mistakes.add(f"{where} ({error.source}), {one.where}", one.seen, one.expected)
    return 0, 0


def _windows(key: str, specs: Sequence[WindowSpec], mistakes: Mistakes) -> tuple[Window, ...]:
    return tuple(_window(spec, f"{key}[{number}]", mistakes) for number, spec in enumerate(specs))


def _window(spec: WindowSpec, where: str, mistakes: Mistakes) -> Window:
    start = mistakes.attempt(f"{where}.from", spec.from_, lambda: parse_minute(spec.from_))
    end = mistakes.attempt(f"{where}.to", spec.to, lambda: parse_minute(spec.to))
    days = mistakes.attempt(f"{where}.days", ", ".join(spec.days), lambda: parse_days(spec.days))
    zone = mistakes.attempt(f"{where}.zone", spec.zone, lambda: _zone(spec.zone))
    return Window(
        from_minute=start or 0,
        to_minute=end or 0,
        days=days or EVERY_DAY,
        zone=zone or ZoneInfo("UTC"),
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder's name
        raise UnitError('a time zone such as "Europe/Berlin" (tz database)') from error


def unset_variables(
    plan: NightPlan, environment: Callable[[str], str | None]
) -> tuple[Mistake, ...]:
    """Variables of `[notify]` that this environment does not have."""
    names = () if plan.notify is None else plan.notify.variables
    return tuple(
        Mistake(where="notify.variables", seen=f"{name}, which is not set", expected="Apprise URLs")
        for name in names
        if not environment(name)
    )
