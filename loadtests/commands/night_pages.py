"""A nightly plan and a night for a terminal, or as JSON; decides nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from analysis.cells import number_column, text_column, whole_column
from analysis.tables import Cell, Table, to_rich, words
from loadtests.clock import NS_PER_S
from loadtests.commands.terminal import Terminal
from loadtests.nightly.plan import NightPlan, Step
from loadtests.nightly.records import NightRecord
from loadtests.nightly.schedule import Due, NotDue, scheduled_at
from loadtests.nightly.spec import StepKind
from loadtests.nightly.windows import DAYS, EVERY_DAY, refusal
from loadtests.plan.units import format_duration


def print_night(record: NightRecord, terminal: Terminal, *, as_json: bool) -> None:
    """What became of each step, and what it amounts to."""
    if as_json:
        terminal.json(record)
        return
    rows = tuple(
        (
            words(step.name),
            words(step.state.value),
            Cell(text=str(len(step.attempts)), value=len(step.attempts)),
            words(step.why),
            words(", ".join(step.run_ids)),
        )
        for step in record.steps
    )
    columns = (
        whole_column("step"),
        whole_column("state"),
        number_column("tries"),
        text_column("why"),
        text_column("runs"),
    )
    title = f"Night {record.night}: {record.state.value}, {format_duration(record.took_ns)}"
    terminal.out.print(to_rich(Table(name="night", title=title, columns=columns, rows=rows)))
    terminal.out.print(record.why, soft_wrap=True)
    for note in record.notes:
        terminal.out.print(f"note: {note}", soft_wrap=True)


def print_not_due(due: NotDue, terminal: Terminal, *, as_json: bool) -> None:
    """That nothing is to run now, and when something is."""
    if as_json:
        following = due.following.isoformat()
        terminal.json({"is_due": False, "why": due.why, "next": following})
        return
    terminal.say(f"nothing is due: {due.why}; next {due.following:%Y-%m-%d %H:%M} UTC")


def print_plan(
    plan: NightPlan, due: Due | NotDue, now: datetime, terminal: Terminal, *, as_json: bool
) -> None:
    """The plan: when, how long, what it may cost; for what reason nothing is due."""
    if isinstance(due, Due):
        when = f"night {due.night} is due now"
    else:
        when = f"{due.why}; next {due.following:%Y-%m-%d %H:%M} UTC"
    if as_json:
        steps = [_step_document(step) for step in plan.steps]
        terminal.json({"name": plan.name, "due": when, "steps": steps})
        return
    terminal.out.print(to_rich(_step_table(plan)))
    terminal.out.print(when)
    for day in range(7):
        terminal.out.print(_day_line(plan, now, day), soft_wrap=True)


def _day_line(plan: NightPlan, now: datetime, day: int) -> str:
    """What the nights of a day of the week take and cost, and whether they fit."""
    runs = [step for step in plan.steps if step.kind is StepKind.RUN and day in step.days]
    whole_ns = sum(step.most_ns + plan.budget.beside_ns for step in runs)
    begins = scheduled_at((now + timedelta(days=(day - now.weekday()) % 7)).date(), plan.at_minute)
    length = timedelta(seconds=whole_ns / NS_PER_S)
    wrong = plan.budget.refusal(whole_ns, -plan.budget.beside_ns)
    wrong = wrong or refusal(plan.authorised, plan.quiet, begins, length)
    cost = plan.budget.cost(whole_ns)
    text = f"{DAYS[day]}: {len(runs)} runs, {format_duration(whole_ns)}, cost {cost:,.2f}"
    return text if wrong is None else f"{text}; warning: {wrong}"


def _step_document(step: Step) -> dict[str, object]:
    return {
        "name": step.name,
        "does": step.kind.value,
        "scenario": None if step.scenario is None else str(step.scenario),
        "length_ns": step.length_ns,
        "days": [DAYS[day] for day in sorted(step.days)],
    }


def _days(days: frozenset[int]) -> str:
    return "all" if days == EVERY_DAY else " ".join(DAYS[day] for day in sorted(days))


def _step_table(plan: NightPlan) -> Table:
    return Table(
        name="steps",
        title=f"{plan.name}: every day at {plan.at_minute // 60:02}:{plan.at_minute % 60:02} UTC",
        columns=(
            whole_column("step"),
            text_column("does"),
            number_column("length"),
            text_column("days"),
        ),
        rows=tuple(
            (
                words(step.name),
                words(step.kind.value if step.scenario is None else str(step.scenario)),
                Cell(text=format_duration(step.length_ns), value=step.length_ns / NS_PER_S),
                words(_days(step.days)),
            )
            for step in plan.steps
        ),
    )
