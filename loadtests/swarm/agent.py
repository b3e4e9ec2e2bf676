"""The agent process: a Locust worker that owns its host's engines.

`headroom worker` calls `run_worker`; a master that spawns agents on its own host starts
`python -m loadtests.swarm.agent`. It joins one master, takes part in one run and ends.
SIGINT, SIGTERM or SIGHUP once: its engines stop, what they counted is handed over, then it ends;
twice: at once. With `--parent` it dies with the master's process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import gevent
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.errors import ExitCode, HarnessError, HeadroomError
from loadtests.parentage import lives_with
from loadtests.plan.host import engine_count, own_configuration, raise_descriptor_limit
from loadtests.swarm.agent_shell import AgentShell, agent_name
from loadtests.swarm.interrupt import Stops
from loadtests.swarm.keys import AgentKeys
from loadtests.swarm.placeholder import EngineUser
from loadtests.swarm.sockets import guard_sockets
from loadtests.swarm.timing import Timing

DEFAULT_PORT: Final = 5557  # Locust's
TELL_EVERY_S: Final = 10.0
_LAST_WORDS_S: Final = 0.2  # for the bus to deliver what was said last


def run_worker(
    master_host: str,
    master_port: int,
    engines: int | None,
    *,
    name: str | None = None,
    has_ticker: bool = True,
    keys: AgentKeys | None = None,
) -> int:
    """Join the master, take part in one run, return the exit code.

    `engines` None: one a usable core, less one when the master is on this host. One agent
    of a host has the ticker. With `keys` the agent is called as its key is. Exit code 0: told to
    end after everything was handed over; 4: stopped by a signal or refused; HarnessError
    when no master answers within Locust's five minutes.
    """
    raise_descriptor_limit()
    guard_sockets(agent_keys=lambda _host: keys)
    name = name if keys is None else keys.own.name
    environment = Environment(user_classes=[EngineUser], parsed_options=_options())
    with Stops(once="the agent got", again="the agent got another") as stops:
        runner = _connect(environment, master_host, master_port, keys)
        try:
            shell = stops.shell = AgentShell(
                runner,
                name=agent_name(name or f"{os.uname().nodename}-{os.getpid()}"),
                engines=engine_count(engines, beside_master=is_local(master_host)),
                configuration=own_configuration(),
                timing=Timing(),
                has_ticker=has_ticker,
            )
            end = shell.run()
            if not end.is_refused:  # else it may be another's name that would be taken for gone
                quitting: Any = environment.events.quitting  # tells the master that it is gone
                quitting.fire(environment=environment, reverse=True)
                gevent.sleep(_LAST_WORDS_S)
        finally:
            runner.greenlet.kill(block=False)
    sys.stderr.write(f"agent ended: {end.reason}\n")
    return ExitCode.PASS if end.is_ok else ExitCode.ABORTED


def _connect(
    environment: Environment, host: str, port: int, keys: AgentKeys | None
) -> WorkerRunner:
    """Join a master, saying every ten seconds that there is none."""
    hint = ""
    if keys is not None:  # a master is silent to keys that it does not know
        own = keys.own
        hint = f", or it does not know the key {own.name} {own.public.hex()}, or has another itself"

    def tell() -> None:
        while True:
            gevent.sleep(TELL_EVERY_S)
            sys.stderr.write(f"no master answers at {host}:{port} yet{hint}; Ctrl-C ends this\n")
            sys.stderr.flush()

    waiting = gevent.spawn(tell)
    try:
        return environment.create_worker_runner(host, port)
    except SystemExit as ended:  # how Locust passes Ctrl-C on
        raise KeyboardInterrupt from ended
    except (ConnectionError, RecursionError) as error:
        raise HarnessError(
            where="worker", seen=f"no answer from {host}:{port}", expected="a master"
        ) from error
    finally:
        waiting.kill(block=False)


def is_local(host: str) -> bool:
    """True when a master's address says that it runs on this host."""
    return host in {"localhost", "::1", os.uname().nodename} or host.startswith("127.")


def _options() -> argparse.Namespace:
    """What a Locust worker reads of its command line, which an agent does not have."""
    return argparse.Namespace(
        web_base_path="", stop_timeout=0.0, tags=None, exclude_tags=None, headless=True,
        enable_rebalancing=False, num_users=None, spawn_rate=None, run_time=None,
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Start an agent that a master on this host asked for."""
    parser = argparse.ArgumentParser(prog="loadtests.swarm.agent")
    parser.add_argument("--master-host", required=True)
    parser.add_argument("--master-port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--engines", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--without-ticker", action="store_true")
    options = parser.parse_args(argv)
    if not lives_with(options.parent):
        return ExitCode.HARNESS
    try:
        return run_worker(
            options.master_host,
            options.master_port,
            options.engines,
            name=options.name,
            has_ticker=not options.without_ticker,
        )
    except KeyboardInterrupt:
        return ExitCode.ABORTED
    except HeadroomError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
