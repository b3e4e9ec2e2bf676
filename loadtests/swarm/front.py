"""The plain Locust way in: `locust -f loadtests/locustfile.py --master|--worker ...`.

Hooks into Locust's own command line, so that people who already run Locust masters get
the same runs: the same coordinator, engines and archive as `headroom run`. Locust keeps
its UI, console and CSV files; start and stop become the run's.

Locust's exit code is ours (0-5) once a run began: the verdict of a complete run comes
from the `judge` that the locustfile hands in, because this room may not import analysis.
Master's and worker's hooks stand together: they are one protocol with Locust's start-up.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import gevent
from gevent.event import Event as Signal
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.clock import NS_PER_S
from loadtests.errors import ExitCode, HeadroomError, Mistake, ScenarioError
from loadtests.plan.authorisation import authorised_hosts, refuse_unauthorised
from loadtests.plan.environment import unfilled_scrape_variables
from loadtests.plan.failover import System
from loadtests.plan.host import engine_count, own_configuration, raise_descriptor_limit
from loadtests.plan.model import Plan
from loadtests.plan.reflection import reflector
from loadtests.plan.resolve import resolve
from loadtests.plan.scenario import load_scenario
from loadtests.record.facts import locustfile_digest
from loadtests.record.manifest import Outcome
from loadtests.swarm.agent import is_local
from loadtests.swarm.agent_shell import AgentShell, agent_name
from loadtests.swarm.bus import guard_master
from loadtests.swarm.descriptors import refuse_too_few_descriptors
from loadtests.swarm.interrupt import Stops
from loadtests.swarm.keys import keys_of_agent, keys_of_master
from loadtests.swarm.master import MasterShell, Order
from loadtests.swarm.metrics_door import metrics_door
from loadtests.swarm.metrics_page import MetricsPage
from loadtests.swarm.resumption import RunOutcome
from loadtests.swarm.sockets import guard_sockets, key_name_of
from loadtests.swarm.timing import Timing
from loadtests.swarm.web_door import WebDoor, build_door, wish_of
from loadtests.swarm.web_page import open_page

Judge = Callable[[Path, Plan], ExitCode]  # of an archive, and what was planned
Keys = TypeVar("Keys")

LOOPBACK: Final = "127.0.0.1"
JOIN_WAIT_S: Final = 60.0
_LAST_CSV_ROWS_S: Final = 1.2  # Locust writes its CSV files once a second, not at the end
_LOG: Final = logging.getLogger(__name__)


def install(judge: Judge, live_judge: str) -> None:
    """Add our options and listeners to Locust's; call it when the locustfile is imported.

    `live_judge` is the module that judges for the web UI as a run goes.
    """
    guard_sockets(_or_refused(keys_of_master), _or_refused(keys_of_agent))
    hooks: Any = events  # untyped
    hooks.init_command_line_parser.add_listener(_add_options)
    hooks.init.add_listener(lambda environment, **_: _attach(environment, judge, live_judge))


def _add_options(parser: Any, **_: object) -> None:
    # Loopback unless told otherwise: Locust's own defaults are all interfaces.
    parser.set_defaults(master_bind_host=LOOPBACK, web_host=LOOPBACK)

    def add(name: str, **rest: Any) -> None:
        parser.add_argument(name, include_in_web_ui=False, **rest)

    add("--scenario", metavar="FILE", help="Headroom's scenario, for the master")
    add(
        "--target",
        action="append",
        default=[],
        metavar="URL[,grpc=URL]",
        help="a node; may be repeated",
    )
    add("--scale", type=float, default=1.0, help="multiply every rate and throughput objective")
    add("--seed", type=int, default=None, help="seed of arrivals, mix and payloads")
    add("--results", default="results", metavar="DIR", help="folder of archives")
    add("--metrics-port", type=int, default=None, help="serve /metrics to Prometheus, on loopback")
    add(
        "--web-read-only",
        action="store_true",
        help="show the run in the web UI, and let nobody start or stop it there",
    )
    add(
        "--web-name",
        action="append",
        default=[],
        metavar="NAME",
        help="host name by which browsers may reach the web UI; may be repeated",
    )
    add(
        "--web-without-tls",
        action="store_true",
        help="open the web UI beyond loopback without TLS: the network can read token and run",
    )
    add("--engines", type=int, default=None, help="engines of a worker (default: one a core)")


def _attach(environment: Environment, judge: Judge, live_judge: str) -> None:
    try:
        raise_descriptor_limit()
        if isinstance(environment.runner, MasterRunner):
            FrontMaster(environment, environment.runner, judge, live_judge)
        elif isinstance(environment.runner, WorkerRunner):
            FrontWorker(environment, environment.runner)
        else:
            _refuse("saw neither --master nor --worker; on one host use: headroom run SCENARIO")
    except HeadroomError as error:
        _refuse(str(error), error.exit_code)


def _refuse(text: str, code: ExitCode = ExitCode.USAGE) -> NoReturn:
    sys.stderr.write(f"error: {text}\n")
    sys.exit(code)


def _or_refused(load: Callable[[str], Keys]) -> Callable[[str], Keys]:
    """Keys for an address; Locust ends with a sentence where one is missing or badly kept."""

    def loaded(host: str) -> Keys:
        try:
            return load(host)
        except HeadroomError as error:
            _refuse(str(error), error.exit_code)

    return loaded


def _user_code(environment: Environment) -> dict[str, str]:
    files = environment.parsed_locustfiles or ()
    return locustfile_digest([Path(file) for file in files if Path(file).is_file()])


def _load_plan(options: Any) -> Plan:
    if options.scenario is None:
        _refuse("saw no --scenario; expected a scenario file, such as scenarios/smoke.toml")
    targets, configuration = tuple(options.target), own_configuration()
    reflect = reflector(configuration, datetime.now(UTC))
    plan = resolve(
        load_scenario(options.scenario, targets=targets, reflect=reflect),
        scale=options.scale,
        seed=options.seed,
        targets=targets,
    )
    refuse_unauthorised(plan, configuration, datetime.now(UTC))
    refuse_too_few_descriptors(options.expect_workers)
    if plan.failover is not None and plan.failover.system is System.EMBEDDED:
        seen = "a system that the run starts for itself"
        mistake = Mistake(where="failover.system", seen=seen, expected="`headroom run` for it")
        raise ScenarioError(options.scenario, (mistake,))
    if mistakes := unfilled_scrape_variables(plan, os.environ):
        raise ScenarioError(options.scenario, mistakes)
    return plan


def _door(options: Any) -> WebDoor:
    """The terms of Locust's web UI; ScenarioError when they are not enough."""
    host = "" if options.web_host == "*" else options.web_host
    return build_door(wish_of(options, host=host, base_path=options.web_base_path), os.environ)


class FrontMaster:
    """Locust's master, with one Headroom run behind its start button."""

    def __init__(
        self, environment: Environment, runner: MasterRunner, judge: Judge, live_judge: str
    ) -> None:
        self._environment = environment
        self._runner = runner
        self._judge, self._live_judge = judge, live_judge
        # A copy: Locust's start form sets options of its own by name.
        self._options: Any = Namespace(**vars(environment.parsed_options))
        self._shell: MasterShell | None = None
        ui: Any = environment.web_ui
        if ui is not None:
            open_page(ui, _door(self._options), lambda: self._shell, may_start=True)
        self._plan = _load_plan(self._options)
        self._done = Signal()
        self._doors = ExitStack()  # closed with Locust
        port: int | None = self._options.metrics_port
        if port is not None:
            door = metrics_door(LOOPBACK, port, self._metrics_page)
            _LOG.info("metrics: http://%s:%d/metrics", LOOPBACK, self._doors.enter_context(door))
        environment.host = self._plan.nodes[0].authority
        guard_master(runner)
        self._locust_start, self._locust_quit = runner.start, runner.quit
        # Before the run Locust acts on SIGTERM itself.
        self._stops = Stops(
            once="stopped by", again="stopped at once by", before=(signal.SIGINT,)
        ).listen()
        for name, ours in (("start", self._start), ("stop", self._stop), ("quit", self._quit)):
            setattr(runner, name, ours)

    def _start(self, *_: object, **__: object) -> None:
        """Begin the run; the second time, and when a worker joins late, there is nothing to do."""
        if self._shell is not None:
            if self._done.is_set():
                _LOG.warning("this run is over; start Locust again for another")
            return
        agents = max(self._options.expect_workers, self._runner.worker_count)
        order = Order(
            plan=self._plan,
            results=Path(self._options.results),
            bind=(self._options.master_bind_host, self._options.master_bind_port),
            agents=agents,
            join_wait_ns=round((self._options.expect_workers_max_wait or JOIN_WAIT_S) * NS_PER_S),
            command=tuple(sys.argv),
            on_progress=lambda _progress: None,
            start_agents=None,
            users=agents,
            authorised_hosts=authorised_hosts(own_configuration(), datetime.now(UTC)),
            user_code=_user_code(self._environment),
            live_judge=None if self._environment.web_ui is None else self._live_judge,
            has_metrics=self._options.metrics_port is not None,
        )
        self._shell = MasterShell(self._runner, order, self._locust_start)
        self._stops.shell = self
        gevent.spawn(self._run, self._shell)

    def _stop(self, send_stop_to_client: bool = True) -> None:  # noqa: FBT001, FBT002 - Locust's signature
        """Act on the UI's stop button; Locust's own stops come without anybody connected."""
        if send_stop_to_client and self._shell is not None and self._runner.worker_count > 0:
            self._shell.request_stop("stopped in Locust")

    def _quit(self) -> None:
        """End a run in order before Locust ends."""
        if self._shell is not None and not self._done.is_set():
            if gevent.getcurrent() in self._runner.greenlet:
                # Locust's listener calls this when its last worker has gone: it must go on
                # listening, or the run could not end.
                gevent.spawn(self._quit)
                return
            self._shell.request_stop("Locust was told to quit")
            self._done.wait()
        self._doors.close()
        self._locust_quit()

    def request_stop(self, reason: str) -> None:
        """Act on the first signal: end the run in order, and Locust after it."""
        if self._shell is not None:
            self._shell.request_stop(reason)
        self._quit()
        self._close_ui()

    def stop_at_once(self, reason: str) -> None:
        """Act on a second signal."""
        if self._shell is not None:
            self._shell.stop_at_once(reason)

    def _metrics_page(self) -> MetricsPage | None:
        return None if self._shell is None else self._shell.metrics_page()

    def _close_ui(self) -> None:
        ui: Any = self._environment.web_ui
        if ui is not None:
            ui.stop()

    def _run(self, shell: MasterShell) -> None:
        try:
            code = self._code_of(shell.run())
            shell.conclude(f"the run is over: {code.name}")
        except HeadroomError as error:
            _LOG.error("%s", error)
            code = error.exit_code
        except Exception:  # noqa: BLE001 - a fault of ours must still end Locust, with code 5
            _LOG.exception("the run failed")
            code = ExitCode.HARNESS
        self._environment.process_exit_code = int(code)
        if self._options.csv_prefix:
            gevent.sleep(_LAST_CSV_ROWS_S)
        self._done.set()
        if self._options.headless:
            self._runner.quit()
        elif self._options.autoquit != -1:
            gevent.sleep(self._options.autoquit)
            self._runner.quit()
            self._close_ui()

    def _code_of(self, end: RunOutcome) -> ExitCode:
        _LOG.info("archive: %s", end.path)
        if end.outcome is not Outcome.COMPLETE:
            _LOG.error("the run ended early: %s", end.reason)
        return self._judge(end.path, self._plan)


class FrontWorker:
    """Locust's worker, with this host's engines."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._environment = environment
        options: Any = environment.parsed_options
        self._runner = runner
        self._done = Signal()
        beside_master = is_local(options.master_host)
        self._shell = AgentShell(
            runner,
            name=agent_name(key_name_of(runner) or f"{os.uname().nodename}-{os.getpid()}"),
            engines=engine_count(options.engines, beside_master=beside_master),
            configuration=own_configuration(),
            timing=Timing(),
            user_code=_user_code(environment),
        )
        # Locust ends when the shell has.
        Stops(once="the agent got", again="the agent got another", shell=self._shell).listen()
        hooks: Any = environment.events
        hooks.quitting.add_listener(lambda **_: self._quit())
        gevent.spawn(self._run)

    def _run(self) -> None:
        code = ExitCode.HARNESS
        try:
            end = self._shell.run()
            code = ExitCode.PASS if end.is_ok else ExitCode.ABORTED
            _LOG.info("agent ended: %s", end.reason)
        finally:
            self._environment.process_exit_code = int(code)
            self._done.set()
            self._runner.greenlet.kill(block=False)

    def _quit(self) -> None:
        self._shell.request_stop("the agent was told to quit")
        self._done.wait()
