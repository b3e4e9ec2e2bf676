"""`headroom run`: one scenario, from plan to verdict. The exit code is the verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.verdict import Verdict
from loadtests.commands.embedded import system_under_test
from loadtests.commands.failover_page import say_prediction
from loadtests.commands.interrupts import ending_at_once, ignoring_after_start
from loadtests.commands.judgement import conclude, exit_code_of, print_run
from loadtests.commands.options import (
    DEFAULT_MASTER_PORT,
    Commands,
    add_json,
    add_logs,
    add_plan,
    add_results,
    address,
    engines,
    key,
    port,
    positive_float,
    positive_int,
)
from loadtests.commands.preparation import (
    assess_here,
    build_plan,
    print_summary,
    refuse_what_may_not_run,
)
from loadtests.commands.progress import LiveProgress
from loadtests.commands.terminal import Terminal
from loadtests.commands.web_options import add_web, web_of
from loadtests.errors import ExitCode, Mistake, ScenarioError
from loadtests.plan.host import engine_count, local_engine_count, own_authorised_hosts
from loadtests.plan.model import Plan
from loadtests.record.archive import Run
from loadtests.record.stop_file import under_way
from loadtests.swarm.web_door import LiveWeb, WebAddress

if TYPE_CHECKING:  # importing the swarm loads Locust
    from loadtests.swarm.resumption import Found
    from loadtests.swarm.run import ExpectedWorkers, LocalWorkers, RunOutcome

_LOOPBACK = ("127.0.0.1", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the master serves while a run is on."""

    web: LiveWeb | None = None
    metrics: WebAddress | None = None


def add_parser(commands: Commands) -> None:
    """Scenario, workers, web UI."""
    parser = commands.add_parser(
        "run",
        help="run a scenario and judge it",
        description="Runs a scenario, archives it and judges it; the exit code is the verdict.",
        epilog="example: headroom run scenarios/smoke.toml --target http://127.0.0.1:9003",
    )
    parser.add_argument(
        "scenario", type=Path, nargs="?", metavar="SCENARIO", help="scenario file (TOML)"
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="instead of a scenario: take up the run whose master died (an id, its beginning, a "
        "folder, or latest). Within the lease of 10 s its workers go on; later what was "
        "received becomes a complete archive",
    )
    add_plan(parser)
    fleet = parser.add_mutually_exclusive_group()
    fleet.add_argument(
        "--workers",
        type=positive_int,
        default=1,
        metavar="N",
        help="start N workers on this host (default: 1)",
    )
    fleet.add_argument(
        "--expect-workers",
        type=positive_int,
        metavar="N",
        help="wait for exactly N workers started with `headroom worker`",
    )
    parser.add_argument(
        "--expect-workers-max-wait",
        type=positive_float,
        default=120.0,
        metavar="SECONDS",
        help="give up when they have not come (default: 120)",
    )
    parser.add_argument(
        "--engines", type=engines, metavar="N|auto", help="engines a local worker (default: auto)"
    )
    parser.add_argument(
        "--bind",
        type=address,
        default=_LOOPBACK,
        metavar="ADDR[:PORT]",
        help="with --expect-workers: where workers connect "
        f"(default: 127.0.0.1:{DEFAULT_MASTER_PORT})",
    )
    key(parser, "the key to listen with, other than master")
    parser.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="serve the run to Prometheus at /metrics of this port; 0 takes a free one "
        "(default: not served)",
    )
    parser.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="ADDR",
        help="address of /metrics, which is read-only (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--force", action="store_true", help="run it although it cannot reach its rate from here"
    )
    add_logs(parser)
    add_web(parser)
    add_results(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Resolve, refuse, run, judge, print."""
    web = web_of(arguments)
    if arguments.resume is not None:
        from loadtests.commands.resume import execute_resume  # noqa: PLC0415 - it uses this module

        return execute_resume(arguments, terminal, web)
    if arguments.scenario is None:
        mistake = Mistake(
            where="SCENARIO", seen="none", expected="a scenario file, or --resume RUN"
        )
        raise ScenarioError("headroom run", (mistake,))
    plan = build_plan(
        arguments.scenario, scale=arguments.scale, seed=arguments.seed, targets=arguments.target
    )
    refuse_open_channel(arguments)
    hosts = arguments.expect_workers or 1
    if arguments.expect_workers is None:
        total = local_engine_count(arguments.engines, arguments.workers) * arguments.workers
    else:
        total = engine_count(arguments.engines, beside_master=False) * arguments.expect_workers
    feasibility = assess_here(plan, hosts=hosts, engines=total)
    refuse_what_may_not_run(
        arguments.scenario,
        plan,
        feasibility,
        force=arguments.force,
        is_local=arguments.expect_workers is None,
    )
    print_summary(terminal, plan, feasibility, total)
    say_prediction(terminal, plan)
    with under_way(arguments.results):
        load_swarm()
        # Signals outside of the target: it takes its time to be taken down.
        with ignoring_after_start() as begun, system_under_test(plan, terminal) as running:
            run, verdict = run_and_judge(running, arguments, terminal, begun, web)
    return exit_code_of(run.manifest.outcome, verdict.state)


def refuse_open_channel(arguments: argparse.Namespace) -> None:
    """ScenarioError, before anything starts, where others reach the master and it has no keys."""
    from loadtests.swarm.keys import keys_of_master  # noqa: PLC0415 - loads ZeroMQ

    if arguments.expect_workers is None and arguments.bind != _LOOPBACK:
        mistake = Mistake(
            where="--bind",
            seen="an address without --expect-workers",
            expected="both: workers of this host alone are on loopback",
        )
        raise ScenarioError("run", (mistake,))
    if arguments.expect_workers is not None:
        keys_of_master(arguments.bind[0], arguments.key)


def run_and_judge(
    plan: Plan,
    arguments: argparse.Namespace,
    terminal: Terminal,
    begun: Callable[[], None],
    web: LiveWeb | None,
) -> tuple[Run, Verdict]:
    """Run, judge and print; `begun` is called once signals are the run's, and nothing's after."""
    outcome = run_swarm(plan, arguments, terminal, begun, web)
    run, verdict = conclude(outcome.path, plan, terminal)
    print_run(terminal, run, verdict, as_json=arguments.json)
    return run, verdict


def load_swarm() -> None:
    """Load Locust before anything runs: Ctrl-C meanwhile ends the process at once."""
    with ending_at_once():
        import loadtests.swarm.run  # noqa: F401, PLC0415 - takes a second, `--help` need not wait


def run_swarm(
    plan: Plan,
    arguments: argparse.Namespace,
    terminal: Terminal,
    begun: Callable[[], None],
    web: LiveWeb | None = None,
) -> RunOutcome:
    """Run a plan with the workers that the arguments ask for, and a web UI."""
    # Importing the swarm loads Locust, which takes a second: `--help` need not wait for it.
    from loadtests.swarm.keys import keys_of_master  # noqa: PLC0415 - see above
    from loadtests.swarm.run import ExpectedWorkers, LocalWorkers  # noqa: PLC0415 - see above

    workers: ExpectedWorkers | LocalWorkers
    if arguments.expect_workers is None:
        workers = LocalWorkers(count=arguments.workers, engines=arguments.engines)
    else:
        host, number = arguments.bind
        workers = ExpectedWorkers(
            count=arguments.expect_workers,
            bind_host=host,
            bind_port=DEFAULT_MASTER_PORT if number is None else number,
            wait_s=arguments.expect_workers_max_wait,
            keys=keys_of_master(host, arguments.key),
        )
    pages = pages_of(arguments, web)
    return run_with(plan, arguments.results, workers, pages=pages, terminal=terminal, begun=begun)


def pages_of(arguments: argparse.Namespace, web: LiveWeb | None) -> Pages:
    """What the arguments ask for."""
    return Pages(
        web=web,
        metrics=None
        if arguments.metrics_port is None
        else WebAddress(host=arguments.metrics_host, port=arguments.metrics_port),
    )


def run_local(
    plan: Plan, results: Path, terminal: Terminal, begun: Callable[[], None] = lambda: None
) -> RunOutcome:
    """Run a plan with one worker on this host; `begun` is called when it has begun."""
    from loadtests.swarm.run import LocalWorkers  # noqa: PLC0415 - loads Locust

    workers = LocalWorkers(count=1, engines=None)
    return run_with(plan, results, workers, pages=Pages(), terminal=terminal, begun=begun)


def run_with(
    plan: Plan,
    results: Path,
    workers: LocalWorkers | ExpectedWorkers,
    *,
    pages: Pages,
    terminal: Terminal,
    begun: Callable[[], None],
    found: Found | None = None,
) -> RunOutcome:
    """Run a plan, or go on with the one that was found, with live progress."""
    from loadtests.swarm.run import run_plan  # noqa: PLC0415 - loads Locust

    def tell_web(number: int) -> None:
        if pages.web is not None:
            door = pages.web.door
            url = f"{door.scheme}://{_in_url(door.address.host)}:{number}"
            terminal.say(f"web UI: {url}, live page: {url}/headroom")

    def tell_metrics(number: int) -> None:
        host = "" if pages.metrics is None else pages.metrics.host
        terminal.say(f"metrics: http://{_in_url(host)}:{number}/metrics")

    with LiveProgress(terminal, begun) as progress:
        return run_plan(
            plan,
            results=results,
            workers=workers,
            web=pages.web,
            metrics=pages.metrics,
            on_progress=progress.show,
            authorised_hosts=own_authorised_hosts(),
            command=tuple(sys.argv),
            on_web=tell_web,
            on_metrics=tell_metrics,
            found=found,
        )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
