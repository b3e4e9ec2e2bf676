"""What compose.yaml starts works together: target, master and agents on one loopback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from deployed import run_tool, tool

from loadtests.record.archive import load_run
from loadtests.record.manifest import Outcome


@pytest.mark.nightly
@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_services_of_the_compose_file_run_together(tmp_path: Path) -> None:
    """A whole run with both agents, archived on the volume; every process ends in order."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace of one's own takes root")
    driver = Path(__file__).with_name("compose_driver.py")
    command = (tool("unshare"), "--net", sys.executable, str(driver), str(tmp_path))
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes["master"] in {0, 3}, done.stderr  # 3: this machine was busy
    assert (codes["agents"], codes["target"]) == ([0, 0], 0)
    (path,) = (tmp_path / "results" / "runs").iterdir()
    run = load_run(path)
    assert run.manifest.outcome is Outcome.COMPLETE
    assert len(run.manifest.agents) == 2
    assert all(agent.has_final for agent in run.manifest.agents)
