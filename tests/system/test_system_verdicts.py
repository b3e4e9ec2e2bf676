"""Verdicts of whole runs: nothing measured is never a pass, and the target's fault is a FAIL."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from system_rig import (
    Fleet,
    Load,
    Started,
    fleet,
    free_port,
    only_run,
    send_signal,
    target,
    wait_for_answers,
)

from analysis.findings import Law
from analysis.judging import State
from analysis.verdict import Verdict, judge
from loadtests.record.manifest import Outcome

pytestmark = pytest.mark.system

SHORT = Load(seconds=3, rate=200)
ONE = ("--engines", "1")
NEVER_HIT = """
[[requests]]
name = "rare"
path = "/rare"
weight = 0.000000001
"""
WARM_UP = """
[[stages]]
name = "judged"
duration = "60 s"
rate = "100 rps"
"""


def judged(started: Fleet, run: Started) -> tuple[int, Verdict]:
    """Exit code and verdict of a run that ended."""
    code = run.wait()
    assert "Traceback" not in run.text()
    return code, judge(only_run(started.results))


def test_an_endpoint_that_is_never_hit_is_inconclusive(tmp_path: Path) -> None:
    """Exit 3 though all that was sent was well: a limit without a sample proves nothing."""
    load = Load(seconds=3, rate=200, objectives=("error_ratio < 1 % on rare",), more=NEVER_HIT)
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        code, verdict = judged(started, started.run(load.write(tmp_path, counted.url), *ONE))
        assert len(counted.end()) == load.arrivals
    assert code == 3
    assert verdict.state is State.INCONCLUSIVE
    (objective,) = verdict.objectives
    assert objective.reason == "no data"


def test_a_run_without_a_single_request_is_inconclusive(tmp_path: Path) -> None:
    """A plan whose first arrival lies beyond its end: exit 3, and the reason is the data."""
    load = Load(seconds=2, rate=1)
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        scenario = load.write(tmp_path, counted.url)
        text = scenario.read_text().replace('rate = "1 rps"', 'rate = "0.0001 rps"')
        scenario.write_text(text.replace("[load]", '[load]\narrivals = "poisson"'))
        code, verdict = judged(started, started.run(scenario, *ONE))
        assert counted.end().empty
    assert code == 3
    assert Law.DATA in {finding.law for finding in verdict.findings if finding.is_invalid}


def test_a_plan_of_warm_up_alone_is_refused(tmp_path: Path) -> None:
    """Nothing could be judged: exit 2 with the path of the mistake, and nothing is sent."""
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        scenario = SHORT.write(tmp_path, counted.url)
        scenario.write_text(scenario.read_text().replace("[load]", '[load]\nwarm_up = ["steady"]'))
        run = started.run(scenario, *ONE)
        assert run.wait() == 2
        assert "stages" in run.text()
        assert counted.end().empty


def test_a_run_that_ends_in_its_warm_up_is_inconclusive(tmp_path: Path) -> None:
    """Stopped before any judged second: the archive is complete, and no figure of it passes."""
    load = Load(seconds=60, rate=100, more=WARM_UP)
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        scenario = load.write(tmp_path, counted.url)
        scenario.write_text(scenario.read_text().replace("[load]", '[load]\nwarm_up = ["steady"]'))
        run = started.run(scenario, *ONE)
        wait_for_answers(counted, 2 * load.rate, run)
        send_signal(run.process, signal.SIGINT)
        code, verdict = judged(started, run)
        assert len(counted.end()) >= 2 * load.rate
    assert code == 4
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.outcome is Outcome.ABORTED


def test_a_target_that_is_down_is_said_before_the_load(tmp_path: Path) -> None:
    """Nobody listens at the address: a sentence with the address, exit 4, no PASS."""
    with fleet(tmp_path) as started:
        url = f"http://127.0.0.1:{free_port()}"
        run = started.run(SHORT.write(tmp_path, url), *ONE)
        code = run.wait()
        assert "Traceback" not in run.text()
        assert code == 4, run.text()
        assert url.removeprefix("http://") in run.text()
        assert started.survivors() == []


@pytest.mark.parametrize("status", [500, 429])
def test_a_target_that_only_refuses_fails(tmp_path: Path, status: int) -> None:
    """Exit 1, every answer under its own kind; 429 is named as the limiter."""
    with target(tmp_path, "--status", str(status)) as counted, fleet(tmp_path) as started:
        run = started.run(SHORT.write(tmp_path, counted.url), *ONE)
        code, verdict = judged(started, run)
        assert len(counted.end()) == SHORT.arrivals
    assert code == 1, run.text()
    assert verdict.state is State.FAIL
    errors = only_run(started.results).errors
    assert int(errors[errors["kind"] == f"status_{status}"]["count"].sum()) == SHORT.arrivals
    is_limited = Law.LIMITER in {finding.law for finding in verdict.findings}
    assert is_limited is (status == 429)
    assert ("limiter" in run.text()) is (status == 429)


def test_a_target_that_dies_in_mid_run_fails(tmp_path: Path) -> None:
    """Exit 1, by the target's fault: the generator is not called the limit."""
    # The limit of p95 is wide, so that the one of send lag (5 % of it) forgives a busy machine.
    load = Load(seconds=6, rate=200, objectives=("error_ratio < 1 %", "p95 < 2 s"))
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(load.write(tmp_path, counted.url), *ONE)
        wait_for_answers(counted, 2 * load.rate, run)
        counted.process.kill()
        code, verdict = judged(started, run)
        seen = len(counted.rows())
    archive = only_run(started.results)
    sums = archive.manifest.total_sums
    assert sums is not None
    assert sums.ok <= seen <= sums.sent
    assert sums.planned == load.arrivals == sums.sent + sums.dropped
    assert sums.ok + sums.failed == sums.sent
    assert not verdict.is_generator_limited, verdict.reasons
    assert code == 1, run.text()
    assert verdict.state is State.FAIL


def test_the_same_archive_has_the_same_verdict_everywhere(tmp_path: Path) -> None:
    """Time zone, language and hash seed of the reader change not one byte of the answer."""
    places = [
        {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "0"},
        {"TZ": "Pacific/Kiritimati", "LANG": "de_DE.UTF-8", "LC_ALL": "", "PYTHONHASHSEED": "1"},
        {"TZ": "America/St_Johns", "LANG": "tr_TR", "LC_ALL": "tr_TR", "PYTHONHASHSEED": "4242"},
    ]
    with target(tmp_path) as counted, fleet(tmp_path) as started:
        run = started.run(SHORT.write(tmp_path, counted.url), *ONE)
        code = run.wait()
        (path,) = (started.results / "runs").iterdir()
        stored = json.loads((path / "verdict.json").read_text())
        shows = [started.start("show", str(path), "--json", environment=place) for place in places]
        assert {show.wait() for show in shows} == {code}
        texts = {show.text() for show in shows}
    assert len(texts) == 1
    document = json.loads(texts.pop())
    assert {key: document[key] for key in stored} == stored
    assert code == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[stored["state"]]
