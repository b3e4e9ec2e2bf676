"""One night for real: under its lock, on this host, with what follows it.

Upload, retention and messages come after the record is complete; what fails of them is a note
of it and a fault of ours. The dead-man file is written last of all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loadtests.clock import NS_PER_S, SystemClock
from loadtests.commands import notify, prune
from loadtests.commands.host_reading import measure_host
from loadtests.commands.night_child import Children, Signals
from loadtests.commands.night_lock import holding_the_night
from loadtests.commands.night_steps import Steps
from loadtests.commands.terminal import Terminal
from loadtests.errors import HeadroomError
from loadtests.nightly.canary import judge_host
from loadtests.nightly.night import begin, conduct, is_worth_telling, with_note
from loadtests.nightly.plan import PLACEHOLDERS, NightPlan
from loadtests.nightly.records import (
    NightRecord,
    history_of,
    read_records,
    record_path,
    write_last_result,
    write_record,
)
from loadtests.nightly.schedule import Due, NotDue

_AFTER_NS: Final = 3600 * NS_PER_S  # of a night: upload, retention, messages


def run_night(
    plan: NightPlan, due: Callable[[], Due | NotDue], results: Path, terminal: Terminal, night: str
) -> NightRecord | NotDue:
    """Hold the lock, measure the host, conduct, and do what follows, if it still is due."""
    clock, signals = SystemClock(), Signals()
    started_ns = clock.unix_ns()
    lock = holding_the_night(
        results,
        night,
        now_unix_ns=started_ns,
        until_unix_ns=started_ns + plan.budget.time_ns + _AFTER_NS,
        say=terminal.say,
    )
    with signals.caught(), lock:
        found = due()  # again: the night that held the lock may just have ended
        if isinstance(found, NotDue):
            return found
        nights = read_records(results)
        for problem in nights.damaged.values():
            terminal.error(problem)
        terminal.say(f"night {found.night}: measuring the host")
        reading = measure_host(results)
        judgement = judge_host(reading, history_of(nights.records), plan.host_limits)
        record = conduct(
            plan,
            begin(plan, found, clock, reading),
            judgement,
            clock=clock,
            runner=Steps(results, terminal, Children(results, signals)),
            save=lambda one: _save(results, one),
        )
        previous = nights.records[-1] if nights.records else None
        record = _after(plan, results, record, previous, terminal)
        write_last_result(results, record, clock.unix_ns())
    return record


def _save(results: Path, record: NightRecord) -> None:
    write_record(results, record)


def _after(
    plan: NightPlan,
    results: Path,
    record: NightRecord,
    previous: NightRecord | None,
    terminal: Terminal,
) -> NightRecord:
    """Upload, retention and messages; what fails of them is a note of the record."""
    problems = []
    if plan.upload is not None and (wrong := _upload(plan, results, record)) is not None:
        problems.append(wrong)
    elif plan.retention_nights is not None:  # what is not safe elsewhere stays
        try:
            begun = read_records(results)  # this one too
            prune.remove(results, prune.decide(results, begun, plan.retention_nights))
        except HeadroomError as error:
            problems.append(f"retention: {error}")
    for problem in problems:
        terminal.error(problem)
        record = with_note(record, problem, is_failure=True)
    if plan.notify is not None and is_worth_telling(record, previous, plan.notify.on):
        for variable in notify.send(plan.notify.variables, os.environ.get, record):
            problem = f"notification through {variable} failed"
            terminal.error(problem)
            record = with_note(record, problem, is_failure=True)
    _save(results, record)
    return record


def _upload(plan: NightPlan, results: Path, record: NightRecord) -> str | None:
    """Run the user's command; what went wrong, without its words: they may hold secrets."""
    assert plan.upload is not None
    values = (str(results), record.night, str(record_path(results, record.night)))
    command = list(plan.upload.command)
    for placeholder, value in zip(PLACEHOLDERS, values, strict=True):
        command = [word.replace(placeholder, value) for word in command]
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=plan.upload.timeout / NS_PER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"upload: {command[0]}: {type(error).__name__}"
    return None if done.returncode == 0 else f"upload: {command[0]}: exit code {done.returncode}"
