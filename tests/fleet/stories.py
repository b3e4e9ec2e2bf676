"""What happens to a fleet of hosts, and what was seen then.

Each story is a run of its own on hosts of its own: a target that counts, a master, three
agents with an engine each; two seconds into the load something happens; the end. `Evidence`
is all that may be judged of one.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pandas as pd
from hosts_rig import AGENTS, LEASE_S, MASTER, SPARE, Hosts, hosts
from system_rig import Load, Started, unix_minus_monotonic_ns, wait_for_answers, wait_until
from unit_rig import start_units

from loadtests.record.archive import Run, load_run

AT_A_TIME: Final = 4
RATE: Final = 90
_BEFORE_S: Final = 2
_LOCUST: Final = str(Path(sys.executable).parent / "locust")
_LOCUSTFILE: Final = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


@dataclass(slots=True, kw_only=True)
class Scene:
    """A run under load, and when what happened (unix ns)."""

    hosts: Hosts
    load: Load
    master: Started
    workers: list[Started]
    others: list[Started] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    left: Path | None = None  # a copy of what the last dead master had

    def mark(self, name: str) -> None:
        """Note the time."""
        self.marks[name] = time.time_ns()


Begin = Callable[[Hosts, Load], tuple[Started, list[Started]]]


def with_headroom(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
    """`headroom run` and three `headroom worker`."""
    return made.master(load), [made.worker(agent) for agent in AGENTS]


def with_other_clocks(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
    """The same, but no two hosts have the same monotonic clock: hours lie between them."""
    workers = [
        made.worker(agent, clock_ahead_s=4000 * number) for number, agent in enumerate(AGENTS)
    ]
    return made.master(load), workers


def with_locust(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
    """The same through the plain `locust` command."""
    scenario = load.write(made.folder, made.counted.url)
    program = (_LOCUST, "-f", str(_LOCUSTFILE))
    master = made.started.start(
        "--master", "--master-bind-host", "0.0.0.0", "--headless", "--expect-workers", "3",
        "--scenario", str(scenario), "--results", str(made.started.results),
        before=made.on(MASTER), environment=made.keys(MASTER), program=program,
    )  # fmt: skip
    words = ("--worker", "--master-host", "10.78.0.1", "--engines", "1")
    return master, [
        made.started.start(
            *words, before=made.on(agent), environment=made.keys(agent), program=program
        )
        for agent in AGENTS
    ]


def with_units(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
    """A night and its agents, by the commands of their systemd units; it was due a minute ago."""
    due = datetime.now(tz=UTC) - timedelta(minutes=1)
    return start_units(made, load, f"{due:%H:%M}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run. Under `is_harmless` nothing may be missing."""

    name: str
    seconds: int
    happens: Callable[[Scene], None]
    policy: str = "continue"
    rate: int = RATE
    is_harmless: bool = False
    begin: Begin = with_headroom

    @property
    def load(self) -> Load:
        """What it runs."""
        return Load(seconds=self.seconds, rate=self.rate, policy=self.policy, timeout="2 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a story left. Times are unix ns by one kernel's clock, the target's included."""

    requests: pd.DataFrame  # the target's log, with received_ns as unix time
    run: Run
    left: Run | None  # what the last dead master had received
    marks: dict[str, int]
    master_code: int
    worker_codes: tuple[int, ...]
    other_texts: tuple[str, ...]
    survivors: tuple[str, ...]
    text: str


def play(story: Story, folder: Path) -> Evidence:
    """Play a story to its end."""
    with hosts(folder) as made:
        load = story.load
        master, workers = story.begin(made, load)
        scene = Scene(hosts=made, load=load, master=master, workers=workers)
        wait_for_answers(made.counted, story.rate * _BEFORE_S, master)
        story.happens(scene)
        patience_s = story.seconds + 60.0
        code = scene.master.wait(patience_s)
        codes = tuple(worker.wait(patience_s) for worker in scene.workers)
        made.end_proxies()
        time.sleep(0.2)  # for orphans' last breath: the kernel's, not a timer's
        survivors = tuple(str(process.cmdline()) for process in made.started.survivors())
        offset_ns = unix_minus_monotonic_ns()
        requests = made.counted.end()
        requests["received_ns"] += offset_ns
        (path,) = (made.started.results / "runs").glob("*Z_*")
        return Evidence(
            requests=requests,
            run=load_run(path),
            left=None if scene.left is None else load_run(scene.left),
            marks=scene.marks,
            master_code=code,
            worker_codes=codes,
            other_texts=tuple(other.text() for other in scene.others),
            survivors=survivors,
            text="\n".join(one.text() for one in (scene.master, *scene.workers, *scene.others)),
        )


def nothing(scene: Scene) -> None:
    """Nothing happens."""
    scene.mark("struck")


def cut_for(seconds: float) -> Callable[[Scene], None]:
    """An agent's link is down for a while."""

    def happens(scene: Scene) -> None:
        scene.mark("struck")
        scene.hosts.cut(AGENTS[0])
        time.sleep(seconds)
        scene.hosts.mend(AGENTS[0])
        scene.mark("mended")

    return happens


def mute_agent(scene: Scene) -> None:
    """What an agent says is lost, what the master says arrives."""
    scene.mark("struck")
    scene.hosts.mute(AGENTS[0], MASTER)
    time.sleep(LEASE_S)
    scene.hosts.unmute(AGENTS[0], MASTER)


def mute_master(scene: Scene) -> None:
    """What the master says to one agent is lost, what that agent says arrives."""
    scene.mark("struck")
    scene.hosts.mute(MASTER, AGENTS[0])
    time.sleep(LEASE_S)
    scene.hosts.unmute(MASTER, AGENTS[0])


def through_a_proxy(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
    """One agent's connection to the master goes through a proxy on its host."""
    at = made.start_proxy(AGENTS[0])
    return made.master(load), [
        made.worker(AGENTS[0], master=at),
        *(made.worker(agent) for agent in AGENTS[1:]),
    ]


def forget_one_side(scene: Scene) -> None:
    """The proxy forgets the master's side: a half-open connection."""
    scene.mark("struck")
    scene.hosts.forget_one_side(AGENTS[0])


def stop_master(scene: Scene) -> None:
    """The master stands still for 15 s."""
    scene.mark("struck")
    scene.master.process.send_signal(signal.SIGSTOP)
    time.sleep(15)
    scene.master.process.send_signal(signal.SIGCONT)


def kill_master(scene: Scene) -> None:
    """The master is killed."""
    scene.mark("struck")
    scene.master.process.kill()


def _resume(scene: Scene) -> None:
    scene.master.wait()
    (path,) = (scene.hosts.started.results / "runs").glob("*.partial")
    if scene.left is not None:
        shutil.rmtree(scene.left)
    scene.left = scene.hosts.folder / path.name
    shutil.copytree(path, scene.left)
    scene.master = scene.hosts.resume("latest")


def resume_in_time(scene: Scene) -> None:
    """The master is killed, and another one takes its run up within the lease."""
    kill_master(scene)
    _resume(scene)


def resume_twice(scene: Scene) -> None:
    """So is that one."""
    resume_in_time(scene)
    (path,) = (scene.hosts.started.results / "runs").glob("*Z_*")

    def has_taken_up() -> bool:
        has_ended = scene.master.process.poll() is not None  # it came too late, and closed the run
        events = path / "events.jsonl"
        return has_ended or "master_resumed" in events.read_text(encoding="utf-8")

    wait_until(has_taken_up, "a master that has taken the run up")
    time.sleep(1.5)
    if scene.master.process.poll() is None:
        scene.master.process.kill()
        _resume(scene)


def resume_too_late(scene: Scene) -> None:
    """The master is killed, and another one comes when the agents are gone."""
    kill_master(scene)
    for worker in scene.workers:
        worker.wait()
    _resume(scene)


def stop_agent(scene: Scene) -> None:
    """An agent stands still until it has been given up, and comes back: a zombie."""
    scene.mark("struck")
    scene.workers[0].process.send_signal(signal.SIGSTOP)
    time.sleep(LEASE_S + 2)
    scene.workers[0].process.send_signal(signal.SIGCONT)


def with_a_spare(name: str) -> Begin:
    """As usual, and a fourth worker under a name, that cannot reach anybody yet."""

    def begin(made: Hosts, load: Load) -> tuple[Started, list[Started]]:
        made.hold_spare(name)
        return with_headroom(made, load)

    return begin


def admit_spare(scene: Scene) -> None:
    """The spare worker reaches the master under load."""
    scene.mark("struck")
    scene.others.append(scene.hosts.admit_spare())


def restart_agent(scene: Scene) -> None:
    """An agent is killed, and another process of its name comes."""
    scene.mark("struck")
    scene.workers[0].process.kill()
    scene.others.append(scene.hosts.admit_spare())


LOST: Final = (
    Story(name="cut-70-s", seconds=78, happens=cut_for(70), rate=45),
    Story(name="resumed-late", seconds=60, happens=resume_too_late),
    Story(name="slow-master", seconds=20, happens=stop_master),
    Story(name="cut-10-s", seconds=18, happens=cut_for(10)),
    Story(name="mute-agent", seconds=16, happens=mute_agent),
    Story(name="mute-master", seconds=16, happens=mute_master),
    Story(name="zombie", seconds=18, happens=stop_agent),
    Story(name="half-open", seconds=16, happens=forget_one_side, begin=through_a_proxy),
    Story(name="cut-10-s-abort", seconds=18, happens=cut_for(10), policy="abort"),
    Story(name="restarted-agent", seconds=15, happens=restart_agent, begin=with_a_spare(AGENTS[0])),
)
DEAD: Final = Story(name="killed-master", seconds=60, happens=kill_master)
HARMLESS: Final = (
    Story(name="resumed", seconds=15, happens=resume_in_time, policy="abort", is_harmless=True),
    Story(name="resumed-twice", seconds=25, happens=resume_twice, policy="abort", is_harmless=True),
    Story(name="cut-1-s", seconds=7, happens=cut_for(1), policy="abort", is_harmless=True),
    Story(
        name="late", seconds=15, happens=admit_spare, policy="abort",
        is_harmless=True, begin=with_a_spare(SPARE),
    ),
    Story(
        name="other-clocks", seconds=5, happens=nothing, policy="abort", rate=600,
        is_harmless=True, begin=with_other_clocks,
    ),
    Story(
        name="locust", seconds=5, happens=nothing, policy="abort", rate=600,
        is_harmless=True, begin=with_locust,
    ),
    Story(
        name="units", seconds=5, happens=nothing, policy="abort", rate=600,
        is_harmless=True, begin=with_units,
    ),
)  # fmt: skip
# The second process with a key takes the first one's connection over, which may cost the first.
DISTURBED: Final = (
    Story(name="duplicate", seconds=15, happens=admit_spare, begin=with_a_spare(AGENTS[0])),
)
STORIES: Final = (*LOST, DEAD, *HARMLESS, *DISTURBED)
