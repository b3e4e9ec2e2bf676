"""What is said before a run: `check` on scenarios with faults, and actions of one's own."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from loadtests.commands.dispatch import dispatch
from loadtests.errors import ExitCode
from loadtests.failover.actions import action_of
from loadtests.failover.strike import FaultError
from loadtests.plan.faults import known_actions
from loadtests.plan.scenario import load_scenario, resolve

ROOT = Path(__file__).resolve().parents[2]
GOOD = ROOT / "tests" / "plan" / "good" / "failover.toml"


def checked(*words: str) -> tuple[ExitCode, str, str]:
    """`headroom check`: its code and both outputs."""
    out, err = io.StringIO(), io.StringIO()
    return dispatch(["check", *words], out, err), out.getvalue(), err.getvalue()


def test_check_prints_what_is_expected_of_each_fault() -> None:
    """Placement, when, on whom, and the load balancer's time to notice."""
    code, out, _ = checked(str(ROOT / "scenarios" / "failover-grey.toml"))
    assert code is ExitCode.PASS
    assert "HAProxy's checks take 1 s to 2.5 s to notice; a new leader takes up to 3 s" in out
    assert "at 22 s, for 20 s" in out
    assert "zone-a: node-1; zone-b: node-2" in out


def test_check_says_it_to_machines_too() -> None:
    """The same as JSON; None for a scenario without faults."""
    smoke = str(ROOT / "scenarios" / "smoke.toml")
    code, out, _ = checked(str(GOOD), smoke, "--json")
    assert code is ExitCode.PASS
    failover, none = (document["failover"] for document in json.loads(out))
    assert none is None
    kill = failover["expected"][0]
    assert (kill["fault"], kill["has_quorum"], kill["lost"]) == ("kill", False, 1)
    assert kill["unavailable_ns"] is None
    assert [fault["name"] for fault in failover["faults"]][:2] == ["kill", "restart"]


def test_a_fault_on_a_host_that_nobody_authorised_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the load itself goes to loopback."""
    monkeypatch.setenv("HEADROOM_CONFIG", str(tmp_path / "headroom.toml"))
    (tmp_path / "headroom.toml").write_text("")
    text = GOOD.read_text(encoding="utf-8")
    for old, new in (
        ('url = "http://127.0.0.1:9004"', 'url = "http://198.51.100.7:9004"'),
        ('admin = "/run/haproxy.sock"', 'admin = "198.51.100.8:9999"'),
    ):
        foreign = tmp_path / "foreign.toml"
        foreign.write_text(text.replace(old, new))
        code, _, err = checked(str(foreign))
        assert code is ExitCode.USAGE
        assert f"{new.split('/')[-1].split(':')[0].split(chr(34))[-1]}, which is not" in err


OWN = '''
from loadtests.failover.strike import Sight


class FillDisk:
    """An action of one's own."""

    def prepare(self, strike):
        return {"free": "1"}

    def apply(self, strike):
        pass

    def undo(self, strike):
        pass

    def look(self, strike):
        return Sight(is_in_force=True, is_gone=True, text="")

    def repair(self, strike):
        return "rm /fill"


class Broken:
    def __init__(self):
        raise RuntimeError("no licence")
'''


def test_an_installed_packages_action_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its entry point: in scenarios and when it is due; what cannot be made says so."""
    (tmp_path / "own_faults_of_a_test.py").write_text(OWN)
    metadata = tmp_path / "own_faults_of_a_test-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-faults\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[headroom.fault_actions]\n"
        "fill-disk = own_faults_of_a_test:FillDisk\n"
        "broken = own_faults_of_a_test:Broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"fill-disk", "broken", "kill"} <= set(known_actions())
    scenario = tmp_path / "own.toml"
    scenario.write_text(GOOD.read_text().replace('action = "exec"', 'action = "fill-disk"'))
    failover = resolve(load_scenario(scenario)).failover
    assert failover is not None
    assert failover.faults[-1].action == "fill-disk"
    assert type(action_of("fill-disk")).__name__ == "FillDisk"
    with pytest.raises(FaultError, match="no licence"):
        action_of("broken")
    with pytest.raises(FaultError, match="no package that has it"):
        action_of("never-heard-of")
