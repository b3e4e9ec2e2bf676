"""A master has a descriptor for every agent, or does not start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from channel import guarded_master, wait_until

from loadtests.errors import HarnessError
from loadtests.swarm import descriptors
from loadtests.swarm.descriptors import needed_descriptors, refuse_too_few_descriptors

SCENARIO = Path(__file__).parents[2] / "scenarios" / "smoke.toml"


def test_three_thousand_agents_need_six_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two each and 64: with one less the start is refused, with the figures."""
    assert needed_descriptors(3000) == 6064
    monkeypatch.setattr(descriptors, "raise_descriptor_limit", lambda: 6063)
    with pytest.raises(HarnessError, match=r"6,063 descriptors.*6,064 for 3,000 workers"):
        refuse_too_few_descriptors(3000)
    monkeypatch.setattr(descriptors, "raise_descriptor_limit", lambda: 6064)
    refuse_too_few_descriptors(3000)


AGENTS = """
import sys, msgspec, zmq
context = zmq.Context()
sockets = [context.socket(zmq.DEALER) for _ in range(40)]
for number, one in enumerate(sockets):
    one.setsockopt(zmq.IDENTITY, b"agent-%d" % number)
    one.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
    one.send(msgspec.msgpack.encode(("client_ready", "2.47.0", f"agent-{number}")))
sys.stdin.read()
context.destroy(linger=0)
"""


@pytest.mark.system
def test_an_agent_holds_one_descriptor_of_the_master() -> None:
    """The master's process grows by one for each connection, not by more."""
    own = psutil.Process()
    with guarded_master() as master:
        words = [sys.executable, "-c", AGENTS, str(master.server.port)]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as agents:
            before = own.num_fds()
            wait_until(lambda: len(master.clients) == 40, seconds=60)
            assert own.num_fds() - before <= 40
            agents.communicate()


@pytest.mark.system
def test_a_master_without_enough_does_not_start(tmp_path: Path) -> None:
    """Said at once, before an archive is made; not found out by a spinning thread."""
    headroom = Path(sys.executable).with_name("headroom")
    done = subprocess.run(
        ["prlimit", "--nofile=100:100", str(headroom), "run", str(SCENARIO),
         "--target", "http://127.0.0.1:9", "--expect-workers", "19", "--force"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "102 for 19 workers" in done.stderr
    assert not (tmp_path / "results" / "runs").exists()
