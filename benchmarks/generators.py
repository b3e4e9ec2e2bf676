"""The peers as contestants: how each is started, and what it says that it did.

Every generator gets the same task: GET / of one nginx over 64 keep-alive connections, as
fast as one core allows, each on the pinned core that it has for itself. Options are the
ones that favour it: one thread for wrk, one CPU for hey (it is Go: more would fight over
the core), Locust headless with all 64 users at once and no wait time.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Child, spawn
from benchmarks.server import Server

CONNECTIONS = 64
_END_S = 30.0  # patience for a generator that should have ended by itself
_LOCUSTFILE = Path(__file__).with_name("locust_users.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A generator under load: `pids` are its own processes, `beside` what only drives it."""

    child: Child
    pids: tuple[int, ...]
    beside: tuple[int, ...]
    finish: Callable[[], int]  # waits for its end; requests that it says it completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A generator that can be started against a server for a number of seconds."""

    key: str
    title: str
    start: Callable[[Server, float], AbstractContextManager[Running]]


def peer(
    key: str,
    title: str,
    command: Callable[[Server, float], list[str]],
    count: Callable[[str], int],
    *,
    core: int,
    scratch: Path,
) -> Contestant:
    """Make a contestant of a command that ends by itself; `count` reads its own total."""

    @contextmanager
    def start(server: Server, seconds: float) -> Iterator[Running]:
        with spawn(key, command(server, seconds), core=core, scratch=scratch) as child:
            yield Running(
                child=child,
                pids=(child.pid,),
                beside=(),
                finish=lambda: count(child.wait_success(seconds + _END_S)),
            )

    return Contestant(key=key, title=title, start=start)


def wrk(*, core: int, scratch: Path) -> Contestant:
    """Build the C generator that sets the scale."""

    def command(server: Server, seconds: float) -> list[str]:
        return ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{round(seconds)}s", f"{server.url}/"]

    return peer("wrk", "wrk (C)", command, count_of_wrk, core=core, scratch=scratch)


def hey(*, core: int, scratch: Path) -> Contestant:
    """Build the Go generator."""

    def command(server: Server, seconds: float) -> list[str]:
        options = ["-c", str(CONNECTIONS), "-cpus", "1", "-z", f"{round(seconds)}s"]
        return ["hey", *options, f"{server.url}/"]

    return peer("hey", "hey (Go)", command, count_of_hey, core=core, scratch=scratch)


def locust(user: str, title: str, *, core: int, scratch: Path) -> Contestant:
    """Build one Locust process with 64 users of the class `user` of locust_users.py."""

    def command(server: Server, seconds: float) -> list[str]:
        users = ["-u", str(CONNECTIONS), "-r", str(CONNECTIONS), "-t", f"{round(seconds)}s"]
        quiet = ["--headless", "--only-summary", "--json", "--loglevel", "WARNING"]
        file = ["-m", "locust", "-f", str(_LOCUSTFILE), "--host", server.url]
        return [sys.executable, *file, *users, *quiet, user]

    return peer(user, title, command, count_of_locust, core=core, scratch=scratch)


def count_of_wrk(output: str) -> int:
    """Completed requests in wrk's summary; ValueError when it is not one, or has errors."""
    found = re.search(r"(\d+) requests in ", output)
    if found is None or "Socket errors" in output or "Non-2xx" in output:
        raise ValueError(f"wrk said: {output[-500:]}")
    return int(found[1])


def count_of_hey(output: str) -> int:
    """Completed requests in hey's summary; ValueError when other answers than 200 came."""
    statuses = re.findall(r"\[(\d+)\]\s+(\d+) responses", output)
    if [status for status, _ in statuses] != ["200"]:
        raise ValueError(f"hey said: {output[-500:]}")
    return int(statuses[0][1])


def count_of_locust(output: str) -> int:
    """Completed requests in Locust's JSON summary; ValueError when any failed."""
    entries = json.loads(output[output.index("[") :])
    if any(entry["num_failures"] for entry in entries):
        raise ValueError(f"Locust said: {output[-500:]}")
    return sum(int(entry["num_requests"]) for entry in entries)
