"""Whole runs over a control channel with keys: both front doors, and who is left outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from swarm_rig import free_port, job, only_run, wait_until, write_scenario

from loadtests.cluster.launch import Cluster
from loadtests.record.archive import verify
from loadtests.record.manifest import Outcome
from loadtests.swarm.keys import authorise, create_key

pytestmark = pytest.mark.system

LOCUSTFILE = str(Path(__file__).parents[2] / "loadtests" / "locustfile.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One node on a free port."""
    with Cluster.start(nodes=1) as started:
        started.wait_ready(30)
        yield started


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys of a master and of one authorised agent; a third host's key is nobody's."""
    folder = tmp_path / "keys"
    for name in ("master", "agent-1", "nobody"):
        made = create_key(folder, name)
        if name != "nobody":
            authorise(folder, name, made.public.hex())
    monkeypatch.setenv("HEADROOM_KEYS", str(folder))
    return folder


@pytest.mark.usefixtures("keys")
def test_a_run_with_keys_has_the_authorised_agent_alone(cluster: Cluster, tmp_path: Path) -> None:
    """`headroom run` and `worker`: a key that nobody authorised waits outside, and is told why."""
    port = f"127.0.0.1:{free_port()}"
    scenario = str(write_scenario(tmp_path, seconds=3))
    target = ["--target", cluster.nodes[0].url, "--results", str(tmp_path / "results")]
    fleet = ["--expect-workers", "1", "--bind", port, "--key", "master", "--force"]
    worker = ["headroom", "worker", "--master", port, "--engines", "1", "--key"]
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    with (
        job(tmp_path / "bad", *worker, "nobody") as outside,
        job(tmp_path, "headroom", "run", scenario, *target, *fleet) as master,
    ):
        wait_until(lambda: "127.0.0.1" in outside.text(), "the stranger")
        with job(tmp_path / "good", *worker, "agent-1") as agent:
            assert master.wait() in {0, 3}, master.text()
            assert agent.wait(30) == 0, agent.text()
        assert "as agent-1" in agent.text()
        assert outside.process.poll() is None, "it waits for a master that knows it"
    run = only_run(tmp_path / "results")
    assert verify(run.path) == ()
    assert run.manifest.outcome is Outcome.COMPLETE
    assert [agent.agent for agent in run.manifest.agents] == ["agent-1"]
    assert any("not an authorised key" in event.text for event in run.events)


@pytest.mark.faults
@pytest.mark.usefixtures("keys")
def test_the_locust_command_speaks_with_keys_too(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain front door: $HEADROOM_KEY names the key where loopback would need none."""
    port = str(free_port())
    (tmp_path / "worker").mkdir()
    locust = ["locust", "-f", LOCUSTFILE]
    monkeypatch.setenv("HEADROOM_KEY", "master")
    words = ["--master", "--master-bind-port", port, "--expect-workers", "1", "--headless"]
    words += ["--scenario", str(write_scenario(tmp_path, seconds=3))]
    words += ["--target", cluster.nodes[0].url, "--results", str(tmp_path / "results")]
    with job(tmp_path, *locust, *words) as master:
        monkeypatch.setenv("HEADROOM_KEY", "agent-1")
        words = ["--worker", "--master-host", "127.0.0.1", "--master-port", port, "--engines", "1"]
        with job(tmp_path / "worker", *locust, *words) as agent:
            assert master.wait() in {0, 3}, master.text()
            assert agent.wait(30) == 0, agent.text()
    assert [agent.agent for agent in only_run(tmp_path / "results").manifest.agents] == ["agent-1"]


def test_the_locust_command_refuses_an_open_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bound to every interface without keys: exit 2, and the command that helps."""
    monkeypatch.setenv("HEADROOM_KEYS", str(tmp_path / "none"))
    words = ["--master", "--master-bind-host", "0.0.0.0", "--master-bind-port", str(free_port())]
    words += ["--headless", "--scenario", str(write_scenario(tmp_path, seconds=3))]
    with job(tmp_path, "locust", "-f", LOCUSTFILE, *words) as started:
        assert started.wait() == 2, started.text()
        assert "headroom keys create master" in started.text()
        assert "Traceback" not in started.text()
