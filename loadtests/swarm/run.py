"""Run a plan: `headroom run`'s way into the swarm.

Makes a Locust master in this process, brings or awaits its agents, serves the web UI if
asked, turns signals into stops, and leaves nothing behind: no socket, no child, no
handler. SIGINT, SIGTERM or SIGHUP once ends the run gracefully with a complete archive; one of
the first two again, at once with a partial one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from locust.env import Environment
from locust.runners import MasterRunner

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError, HeadroomError, TargetError
from loadtests.plan.authorisation import (
    AuthorisedTarget,
    foreign_fault_hosts,
    foreign_metrics_hosts,
)
from loadtests.plan.host import LOCAL_JOIN_WAIT_S, local_engine_count
from loadtests.plan.model import Plan
from loadtests.swarm.bus import guard_master
from loadtests.swarm.descriptors import refuse_too_few_descriptors
from loadtests.swarm.interrupt import Stops
from loadtests.swarm.keys import MasterKeys
from loadtests.swarm.local_agents import LocalAgents
from loadtests.swarm.master import MasterShell, Order
from loadtests.swarm.metrics_door import metrics_door
from loadtests.swarm.placeholder import EngineUser
from loadtests.swarm.progress import Progress
from loadtests.swarm.resumption import Found, RunOutcome
from loadtests.swarm.sockets import guard_sockets
from loadtests.swarm.web import Web
from loadtests.swarm.web_door import LiveWeb, WebAddress
from loadtests.swarm.web_page import Watched

LOOPBACK: Final = "127.0.0.1"

__all__ = [
    "ExpectedWorkers",
    "LocalWorkers",
    "Progress",
    "RunOutcome",
    "WebAddress",
    "run_plan",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorkers:
    """Agents that the master starts on its own host.

    `engines` of each; None: the host's cores, less one for the master, divided among them.
    """

    count: int
    engines: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedWorkers:
    """Exactly so many agents, started by the user with `headroom worker`, within `wait_s`.

    `keys` are what the master listens with (`keys.keys_of_master`); None: loopback only.
    """

    count: int
    bind_host: str
    bind_port: int
    wait_s: float
    keys: MasterKeys | None = None


def run_plan(
    plan: Plan,
    *,
    results: Path,
    workers: LocalWorkers | ExpectedWorkers,
    web: LiveWeb | None,
    on_progress: Callable[[Progress], None],
    authorised_hosts: tuple[str, ...],
    command: tuple[str, ...],
    on_web: Callable[[int], None] = lambda _port: None,
    metrics: WebAddress | None = None,
    on_metrics: Callable[[int], None] = lambda _port: None,
    found: Found | None = None,
) -> RunOutcome:
    """Run a plan to its end and return where its archive is.

    `found`: take up the run that a dead master left instead of a new one, with its workers.
    `on_progress` is called about twice a second, `on_web` once with the web UI's port,
    `on_metrics` with that of the metrics for Prometheus.
    TargetError for a host that nobody authorised, before anything starts; HarnessError when
    this process may not open a connection to every worker, the archive cannot be written, a
    port is taken or local agents die before load.
    """
    _refuse_foreign(plan, authorised_hosts)
    refuse_too_few_descriptors(workers.count)
    listening = Stops(once="stopped by", again="stopped at once by")
    with listening as stops, _master(workers) as runner:
        order = Order(
            plan=plan,
            results=results,
            bind=_bind(workers),
            found=found,
            agents=workers.count,
            join_wait_ns=_join_wait_ns(workers),
            command=command,
            on_progress=on_progress,
            start_agents=_starter(workers, runner),
            users=workers.count,
            authorised_hosts=authorised_hosts,
            live_judge=None if web is None else web.judge,
            has_metrics=metrics is not None,
        )
        shell = MasterShell(runner, order, take_over(runner, lambda: shell.request_stop("web UI")))
        stops.shell = shell
        with ExitStack() as pages:
            pages.enter_context(_serving(runner, web, on_web, shell))
            if metrics is not None:
                door = metrics_door(metrics.host, metrics.port, shell.metrics_page)
                on_metrics(pages.enter_context(door))
            return shell.run()


def take_over(runner: MasterRunner, on_stop: Callable[[], None]) -> Callable[..., None]:
    """Make Locust's start and stop ours; returns Locust's own start.

    Locust calls `start` again whenever a worker joins or leaves, and `stop` when its last
    one is missing: both would move load behind the coordinator's back. What is left of
    `stop` is the web UI's button.
    """
    locust_start = runner.start

    def start(*_: object, **__: object) -> None:
        """Membership is frozen at the barrier: there is nothing to start again."""

    def stop(send_stop_to_client: bool = True) -> None:  # noqa: FBT001, FBT002 - Locust's signature
        if send_stop_to_client and runner.worker_count > 0:
            on_stop()

    runner.start = start  # type: ignore[method-assign]  # Locust has no hook
    runner.stop = stop  # type: ignore[method-assign]  # Locust has no hook
    return locust_start


def _refuse_foreign(plan: Plan, authorised_hosts: tuple[str, ...]) -> None:
    allowed = [
        AuthorisedTarget(host=host.lower(), owner="", max_rate_per_s=0.0, expires=None, proof=None)
        for host in authorised_hosts
    ]
    asked = [(f"node {node.name}", host) for node in plan.nodes for host in node.foreign_hosts]
    asked += [("failover", host) for host in foreign_fault_hosts(plan)]
    asked += [("server metrics", host) for host in foreign_metrics_hosts(plan)]
    for where, host in asked:
        if not any(entry.covers(host) for entry in allowed):
            raise TargetError(
                where=where,
                seen=f"{host}, which is not an authorised target",
                expected="loopback, or an entry of [authorised_targets]",
            )


def _join_wait_ns(workers: LocalWorkers | ExpectedWorkers) -> int:
    wait_s = workers.wait_s if isinstance(workers, ExpectedWorkers) else LOCAL_JOIN_WAIT_S
    return round(wait_s * NS_PER_S)


def _bind(workers: LocalWorkers | ExpectedWorkers) -> tuple[str, int]:
    if isinstance(workers, LocalWorkers):
        return LOOPBACK, 0
    return workers.bind_host, workers.bind_port


@contextmanager
def _master(workers: LocalWorkers | ExpectedWorkers) -> Iterator[MasterRunner]:
    keys = workers.keys if isinstance(workers, ExpectedWorkers) else None
    guard_sockets(master_keys=lambda _host: keys)
    host, port = _bind(workers)
    environment = Environment(user_classes=[EngineUser])
    try:
        runner = environment.create_master_runner(host, port)
    except SystemExit as error:  # how Locust says that the port is taken
        raise HarnessError(
            where="master", seen=f"{host}:{port} is in use", expected="a free port"
        ) from error
    except HeadroomError:
        raise
    except Exception as error:
        raise HarnessError(
            where="master", seen=str(error), expected=f"to listen on {host}:{port}"
        ) from error
    guard_master(runner)
    try:
        yield runner
    finally:
        runner.greenlet.kill(block=True)
        runner.server.close()  # type: ignore[no-untyped-call]  # locust.rpc has no types


def _starter(
    workers: LocalWorkers | ExpectedWorkers, runner: MasterRunner
) -> Callable[[], LocalAgents] | None:
    if isinstance(workers, ExpectedWorkers):
        return None
    engines = local_engine_count(workers.engines, workers.count)
    return lambda: LocalAgents(workers.count, engines, LOOPBACK, runner.server.port)


@contextmanager
def _serving(
    runner: MasterRunner, web: LiveWeb | None, on_web: Callable[[int], None], watched: Watched
) -> Iterator[None]:
    if web is None:
        yield
        return
    ui = Web(runner.environment, web.door, lambda: watched)
    try:
        on_web(ui.port)
        yield
    finally:
        ui.stop()
