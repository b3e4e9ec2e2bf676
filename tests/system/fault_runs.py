"""Short real runs with a fault drawn from a seed: who is hit, how, when, and what was seen then.

Loopback, two agents with an engine each, a target that counts. What takes a network of its own
is in tests/fleet, what takes minutes in the kill matrix.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pandas as pd
import psutil
import zmq
from system_rig import (
    Fleet,
    Load,
    Started,
    fleet,
    free_port,
    target,
    unix_minus_monotonic_ns,
    wait_for_answers,
)

from loadtests.record.archive import Run, load_run

RATE: Final = 80
LEASE_S: Final = 10
_SECONDS: Final = 5
_WITHOUT_MASTER_S: Final = 40  # never reached
_NOBODY: Final = "a-stranger"


@dataclass(slots=True, kw_only=True)
class Scene:
    """A run under load."""

    draw: random.Random
    started: Fleet
    port: int
    master: Started
    workers: list[Started]
    marks: dict[str, int] = field(default_factory=dict)

    def worker(self) -> Started:
        """One of the agents."""
        return self.draw.choice(self.workers)

    def engine(self) -> psutil.Process | None:
        """One of the engines, if any lives."""
        with suppress(psutil.Error, ValueError):
            return self.worker().engine()
        return None


def _signal(process: psutil.Process | None, number: signal.Signals) -> None:
    if process is not None:
        with suppress(psutil.Error):
            process.send_signal(number)


def _process(started: Started) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(started.process.pid)
    return None


def _pause(scene: Scene, process: psutil.Process | None) -> None:
    _signal(process, signal.SIGSTOP)
    time.sleep(scene.draw.choice((0.05, 0.5, 1.0, 3.5, 6.0)))
    _signal(process, signal.SIGCONT)


def kill_engine(scene: Scene) -> None:
    """SIGKILL of an engine."""
    _signal(scene.engine(), signal.SIGKILL)


def pause_engine(scene: Scene) -> None:
    """SIGSTOP of an engine, and SIGCONT."""
    _pause(scene, scene.engine())


def kill_agent(scene: Scene) -> None:
    """SIGKILL of an agent."""
    _signal(_process(scene.worker()), signal.SIGKILL)


def pause_agent(scene: Scene) -> None:
    """SIGSTOP of an agent, and SIGCONT."""
    _pause(scene, _process(scene.worker()))


def terminate_agent(scene: Scene) -> None:
    """SIGTERM of an agent, once or twice."""
    agent = _process(scene.worker())
    for _ in range(scene.draw.choice((1, 2))):
        _signal(agent, signal.SIGTERM)


def pause_master(scene: Scene) -> None:
    """SIGSTOP of the master, and SIGCONT."""
    _pause(scene, _process(scene.master))


def stop_master(scene: Scene) -> None:
    """SIGTERM of the master, once or twice."""
    for _ in range(scene.draw.choice((1, 2))):
        _signal(_process(scene.master), signal.SIGTERM)
        time.sleep(scene.draw.random() / 2)


def kill_master(scene: Scene) -> None:
    """SIGKILL of the master."""
    scene.marks["killed"] = time.time_ns()
    scene.master.process.kill()
    scene.master.wait()


def resume_master(scene: Scene) -> None:
    """SIGKILL of the master, and another one that takes its run up."""
    kill_master(scene)
    del scene.marks["killed"]  # load goes on
    time.sleep(scene.draw.random())
    words = ("run", "--resume", "latest", "--results", str(scene.started.results))
    # Python's start alone may outlast a lease on a busy machine; the result says if it did.
    scene.master = scene.started.start(*words, before=("chrt", "--rr", "1"))


def _shout(scene: Scene, said: dict[str, list[bytes]]) -> None:
    """Strangers, by name, and what each of them says."""
    with zmq.Context() as context:
        for name, messages in said.items():
            with context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 2000)
                dealer.setsockopt(zmq.IDENTITY, name.encode())
                dealer.connect(f"tcp://127.0.0.1:{scene.port}")
                for message in messages:
                    dealer.send(message)


def garbage(scene: Scene) -> None:
    """Hundreds of messages that are none."""
    draw = scene.draw
    _shout(scene, {_NOBODY: [draw.randbytes(draw.randrange(200)) for _ in range(500)]})


def type_confusion(scene: Scene) -> None:
    """Well-formed messages of Locust with the wrong things in them."""
    things: list[Any] = [None, -1, "x", [], {}, b"", {"state": 1}, 2**60, ["headroom", b"x"]]
    names = ["heartbeat", "stats", "quit", "client_ready", "headroom", "exception", "", "spawning"]
    words = [
        (
            scene.draw.choice(names),
            scene.draw.choice(things),
            scene.draw.choice(("x", _NOBODY)),
        )
        for _ in range(300)
    ]
    _shout(scene, {_NOBODY: [msgspec.msgpack.encode(word) for word in words]})


def oversize(scene: Scene) -> None:
    """A message beyond the limit, and one of 4 MiB within it."""
    _shout(scene, {_NOBODY: [bytes(4 * 1024 * 1024 + 1)], "another": [bytes(70 * 1024 * 1024)]})


def join_storm(scene: Scene) -> None:
    """Two hundred that say they are ready."""
    names = [f"storm-{number}" for number in range(200)]
    ready = {name: [msgspec.msgpack.encode(("client_ready", "2.47.0", name))] for name in names}
    _shout(scene, ready)


HARMLESS: Final[dict[str, Callable[[Scene], None]]] = {
    "garbage": garbage,
    "type confusion": type_confusion,
    "oversize": oversize,
    "join storm": join_storm,
}
FAULTS: Final[dict[str, Callable[[Scene], None]]] = {
    "kill engine": kill_engine,
    "pause engine": pause_engine,
    "kill agent": kill_agent,
    "pause agent": pause_agent,
    "terminate agent": terminate_agent,
    "pause master": pause_master,
    "stop master": stop_master,
    "kill master": kill_master,
    "resume master": resume_master,
    **HARMLESS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run left. Times are unix ns by this host's clocks, the target's included."""

    fault: str
    policy: str
    arrivals: int
    requests: pd.DataFrame  # the target's log, with received_ns as unix time
    run: Run
    marks: dict[str, int]
    master_code: int
    survivors: tuple[str, ...]
    text: str


def play(seed: int, folder: Path) -> Evidence:
    """Draw a fault and run it to its end."""
    draw = random.Random(seed)
    names = list(FAULTS)
    name = names[seed % len(names)]  # each as often as the others
    policy = draw.choice(("abort", "continue", "redistribute"))
    seconds = _WITHOUT_MASTER_S if name == "kill master" else _SECONDS
    if name == "resume master":
        seconds += 8  # another master takes seconds to start
    load = Load(seconds=seconds, rate=RATE, policy=policy, timeout="2 s", grace="1 s")
    port = free_port()
    with target(folder) as counted, fleet(folder) as started:
        words = ("--expect-workers", "2", "--bind", f"127.0.0.1:{port}")
        master = started.run(load.write(folder, counted.url), *words)
        worker = ("worker", "--master", f"127.0.0.1:{port}", "--engines", "1")
        workers = [started.start(*worker) for _ in range(2)]
        scene = Scene(draw=draw, started=started, port=port, master=master, workers=workers)
        wait_for_answers(counted, draw.randrange(1, 3 * RATE), master)
        FAULTS[name](scene)
        code = scene.master.wait()
        for one in workers:
            one.wait()
        time.sleep(0.2)  # for orphans' last breath: the kernel's, not a timer's
        survivors = tuple(str(process.cmdline()) for process in started.survivors())
        offset_ns = unix_minus_monotonic_ns()
        requests = counted.end()
        requests["received_ns"] += offset_ns
        (path,) = (started.results / "runs").glob("*Z_*")
        return Evidence(
            fault=name,
            policy=policy,
            arrivals=load.arrivals,
            requests=requests,
            run=load_run(path),
            marks=scene.marks,
            master_code=code,
            survivors=survivors,
            text="\n".join(one.text() for one in started.started),
        )
