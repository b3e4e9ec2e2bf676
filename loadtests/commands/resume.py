"""`headroom run --resume RUN`: the run of a master that died goes on, or becomes an archive."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from loadtests.commands.archive import find_run
from loadtests.commands.interrupts import ignoring_after_start
from loadtests.commands.judgement import conclude, exit_code_of, print_run
from loadtests.commands.run import load_swarm, pages_of, run_with
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.swarm.web_door import LiveWeb

if TYPE_CHECKING:  # importing the swarm loads Locust
    from loadtests.swarm.resumption import Found
    from loadtests.swarm.run import RunOutcome


def execute_resume(
    arguments: argparse.Namespace, terminal: Terminal, web: LiveWeb | None
) -> ExitCode:
    """Take up the run of a dead master; judge and print it like any other."""
    refuse_beside_resume(arguments)
    load_swarm()
    from loadtests.swarm.resumption import (  # noqa: PLC0415 - loads Locust
        close,
        find,
        why_it_cannot_go_on,
    )

    found = find(find_run(arguments.results, arguments.resume))
    why_not = why_it_cannot_go_on(found)
    with ignoring_after_start() as begun:
        if why_not is None:
            terminal.say(f"taking up {found.manifest.run_id} with its workers")
            outcome = resume_swarm(found, arguments, terminal, begun, web)
        else:
            terminal.say(f"{found.manifest.run_id} cannot go on: {why_not}; closing its archive")
            outcome = close(found, why_not)
        run, verdict = conclude(outcome.path, found.plan, terminal)
        print_run(terminal, run, verdict, as_json=arguments.json)
    return exit_code_of(run.manifest.outcome, verdict.state)


def refuse_beside_resume(arguments: argparse.Namespace) -> None:
    """ScenarioError for what would change a run that is under way."""
    given = {
        "SCENARIO": arguments.scenario is not None,
        "--target": bool(arguments.target),
        "--scale": arguments.scale != 1.0,
        "--seed": arguments.seed is not None,
        "--expect-workers": arguments.expect_workers is not None,
    }
    mistakes = tuple(
        Mistake(where=name, seen="given with --resume", expected="the plan of the run itself")
        for name, is_given in given.items()
        if is_given
    )
    if mistakes:
        raise ScenarioError("headroom run --resume", mistakes)


def resume_swarm(
    found: Found,
    arguments: argparse.Namespace,
    terminal: Terminal,
    begun: Callable[[], None],
    web: LiveWeb | None,
) -> RunOutcome:
    """Go on with the workers of a dead master, who try its address again."""
    from loadtests.swarm.keys import keys_of_master  # noqa: PLC0415 - loads ZeroMQ
    from loadtests.swarm.run import ExpectedWorkers  # noqa: PLC0415 - loads Locust

    anchor = found.anchor
    workers = ExpectedWorkers(
        count=anchor.agents,
        bind_host=anchor.host,
        bind_port=anchor.port,
        wait_s=0.0,
        keys=keys_of_master(anchor.host, arguments.key),
    )
    return run_with(
        found.plan, arguments.results, workers, pages=pages_of(arguments, web), terminal=terminal,
        begun=begun, found=found,
    )  # fmt: skip
