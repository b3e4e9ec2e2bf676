"""Hosts made of network namespaces: a master, three agents, a target, each with its own address.

The namespaces are the failover stand's (`loadtests.failover.supervisor`): one interface each,
on a bridge that nothing else is plugged into. Load therefore leaves no namespace. Links are
cut, and single directions muted, where a cloud would do it: below the processes.

Law: when the rig is closed, nothing that it started is alive.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from system_rig import Fleet, Load, Started, Target, fleet, target, wait_until

from loadtests.failover.proxy_control import Mode, Orders, tell_proxy
from loadtests.failover.stand import Stand
from loadtests.failover.supervisor import Network, StandSpec
from loadtests.swarm.keys import authorise, create_key

MASTER: Final = "master"
TARGET: Final = "target"
AGENTS: Final = ("agent-1", "agent-2", "agent-3")
SPARE: Final = "agent-4"
ADDRESSES: Final = {
    name: f"10.78.0.{number}" for number, name in enumerate((MASTER, *AGENTS, SPARE, TARGET), 1)
}
PORT: Final = 5557
LEASE_S: Final = 10
AT_ONCE: Final = ("chrt", "--rr", "1")  # util-linux, as unshare and nsenter are
_NOBODY: Final = "02:00:00:00:00:fe"  # a locally administered address that no interface has
_CONFIGURATION: Final = """
[authorised_targets."{target}"]
owner = "the test"
max_rate = "100000 rps"
expires = 2099-12-31
"""


def why_not() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    for program in ("unshare", "nsenter", "chrt", "ip"):
        if shutil.which(program) is None:
            return f"needs {program}"
    made = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return None if made.returncode == 0 else f"no network namespaces: {made.stderr.decode()}"


@dataclass(slots=True, kw_only=True)
class Hosts:
    """Six wired hosts, the target running on its own; `started` has all other processes."""

    folder: Path
    stand: Stand
    started: Fleet
    counted: Target
    proxies: list[Started] = field(default_factory=list)
    spare: Started | None = None

    def keys(self, host: str) -> dict[str, str]:
        """Environment of a host: its own folder of keys, and its name."""
        return {"HEADROOM_KEYS": str(self.folder / "keys" / host), "HEADROOM_KEY": host}

    def on(self, host: str, *, clock_ahead_s: int = 0) -> tuple[str, ...]:
        """Words that start a command on a host; its monotonic clock may be another one's."""
        inside = ("nsenter", f"--net=/proc/{self.stand.networks[host]}/ns/net")
        if not clock_ahead_s:
            return inside
        ahead = ("--time", "--monotonic", str(clock_ahead_s))
        return (*inside, "unshare", *ahead, "--fork", "--kill-child")

    def ip(self, host: str, *words: str) -> None:
        """Configure a host's network."""
        subprocess.run([*self.on(host), "ip", *words], check=True, capture_output=True)

    def master(self, load: Load, *words: str, agents: int = len(AGENTS)) -> Started:
        """`headroom run` on the master's host, waiting for its agents."""
        scenario = load.write(self.folder, self.counted.url)
        bind = ("--bind", f"0.0.0.0:{PORT}", "--expect-workers", str(agents))
        return self.started.run(
            scenario, *bind, *words, before=self.on(MASTER), environment=self.keys(MASTER)
        )

    def resume(self, run: str) -> Started:
        """`headroom run --resume` on the master's host.

        That host has nothing else to do, but here dozens of processes share two cores: without
        precedence Python's start alone may outlast a lease.
        """
        words = ("run", "--resume", run, "--results", str(self.started.results))
        before = (*self.on(MASTER), *AT_ONCE)
        return self.started.start(*words, before=before, environment=self.keys(MASTER))

    def worker(
        self,
        host: str,
        *,
        master: str = f"{ADDRESSES[MASTER]}:{PORT}",
        clock_ahead_s: int = 0,
        name: str | None = None,
    ) -> Started:
        """`headroom worker` on a host, under its own name or another one's."""
        words = ("worker", "--master", master, "--engines", "1")
        before = self.on(host, clock_ahead_s=clock_ahead_s)
        return self.started.start(*words, before=before, environment=self.keys(name or host))

    def hold_spare(self, name: str) -> None:
        """Start a worker whose host has no link yet: Python's start takes long here."""
        self.cut(SPARE)
        self.spare = self.worker(SPARE, name=name)

    def admit_spare(self) -> Started:
        """Give it the link, and wait for its end."""
        assert self.spare is not None, "nobody is held"
        self.mend(SPARE)
        self.spare.wait()
        return self.spare

    def cut(self, host: str) -> None:
        """Take a host's link down: to everybody, both ways."""
        self.ip(host, "link", "set", "dev", "eth0", "down")

    def mend(self, host: str) -> None:
        """Put it up again; its route follows from its address."""
        self.ip(host, "link", "set", "dev", "eth0", "up")

    def mute(self, host: str, to: str) -> None:
        """Lose what a host sends to another one; the way back stays open."""
        entry = (ADDRESSES[to], "lladdr", _NOBODY, "dev", "eth0", "nud", "permanent")
        self.ip(host, "neigh", "replace", *entry)

    def unmute(self, host: str, to: str) -> None:
        """Let it be heard again."""
        self.ip(host, "neigh", "del", ADDRESSES[to], "dev", "eth0")

    def start_proxy(self, host: str) -> str:
        """A proxy on a host to the master; returns its address there."""
        at = f"127.0.0.1:{PORT}"
        to = f"{ADDRESSES[MASTER]}:{PORT}"
        words = ("--listen", at, "--to", to, "--control", str(self._control(host)))
        program = (sys.executable, "-m", "loadtests.failover.proxy")
        self.proxies.append(self.started.start(*words, before=self.on(host), program=program))
        wait_until(lambda: "listening" in self.proxies[-1].text(), "the proxy")
        return at

    def _control(self, host: str) -> Path:
        return self.folder / f"{host}.sock"

    def forget_one_side(self, host: str) -> None:
        """Close the proxy's side to the master; the agent's side stays open and silent."""
        tell_proxy(str(self._control(host)), Orders(mode=Mode.HALF_OPEN))

    def end_proxies(self) -> None:
        """End what only carried others' bytes."""
        for proxy in self.proxies:
            proxy.process.terminate()
            proxy.wait(10)


def _exchange_keys(folder: Path) -> None:
    """Every agent trusts the master, and the master every agent."""
    folder.mkdir(mode=0o700)
    master = create_key(folder / MASTER, MASTER)
    for agent in (*AGENTS, SPARE):
        authorise(folder / MASTER, agent, create_key(folder / agent, agent).public.hex())
        authorise(folder / agent, MASTER, master.public.hex())


@contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """All of it, started and closed."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = StandSpec(
        programs=(),
        networks=tuple(
            Network(name=name, address=f"{address}/24") for name, address in ADDRESSES.items()
        ),
        host_address="",
        control=str(folder / "stand.sock"),
    )
    _exchange_keys(folder / "keys")
    (folder / "headroom.toml").write_text(_CONFIGURATION.format(target=ADDRESSES[TARGET]))
    with Stand(spec, folder) as stand:
        there = ("nsenter", f"--net=/proc/{stand.networks[TARGET]}/ns/net")
        with (
            target(folder, host=ADDRESSES[TARGET], before=there) as counted,
            fleet(folder) as started,
        ):
            yield Hosts(folder=folder, stand=stand, started=started, counted=counted)
