"""Real nights: a cluster, children, an upload, a message; nights that are stopped and killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest
from nights import step
from receiver import Receiver, receiving

from loadtests.commands.night_child import Children, Signals
from loadtests.commands.night_steps import Steps
from loadtests.commands.terminal import Terminal
from loadtests.nightly.records import (
    NightRecord,
    NightState,
    read_last_result,
    read_records,
    record_path,
    write_record,
)
from loadtests.nightly.windows import Edge
from loadtests.record.archive import load_run
from loadtests.record.manifest import Outcome
from loadtests.record.stop_file import is_under_way

pytestmark = [pytest.mark.nightly, pytest.mark.system, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
HEADROOM = str(Path(sys.executable).parent / "headroom")
PATIENCE_S = 120.0
PLAN = """
version = 1
name = "short"
at = "00:00"
catch_up = "23 h"
retries = 1
[budget]
time = "20 min"
cost = 1.0
cost_per_hour = 0.68
[[steps]]
name = "smoke"
scenario = "{root}/scenarios/smoke.toml"
arguments = [{targets}]
required = true
[[steps]]
name = "against-baselines"
do = "compare"
[[steps]]
name = "trends"
do = "trend"
[retention]
nights = 1
[upload]
command = ["cp", "--recursive", "{{record}}", "{copies}"]
[notify]
variables = ["HEADROOM_NOTIFY"]
on = ["always"]
"""


@pytest.fixture(scope="module")
def targets() -> Iterator[list[str]]:
    """A cluster of two nodes."""
    command = [HEADROOM, "cluster", "--nodes", "2", "--rest-port", "0", "--grpc-port", "0"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        nodes = json.loads(cluster.stdout.readline())["nodes"]
        yield [node["url"] for node in nodes]
        cluster.send_signal(signal.SIGINT)


@pytest.fixture
def messages() -> Iterator[Receiver]:
    """What would be somebody's telephone."""
    with receiving() as receiver:
        yield receiver


class Rig:
    """A plan, a results folder, and `headroom nightly` with both."""

    def __init__(self, folder: Path, targets: list[str], messages: Receiver) -> None:
        self.results, self.copies = folder / "results", folder / "copies"
        self.copies.mkdir()
        self.plan = folder / "nightly.toml"
        words = ", ".join(f'"--target", "{url}"' for url in targets)
        text = PLAN.format(root=ROOT, targets=words, copies=self.copies)
        self.plan.write_text(text, encoding="utf-8")
        self._environment = {
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "HEADROOM_NOTIFY": f"json://user:secret@127.0.0.1:{messages.port}/",
        }

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start it."""
        return subprocess.Popen(
            [HEADROOM, "nightly", *options, "--results", str(self.results)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with self.start(*options) as night:
            out, err = night.communicate(timeout=3 * PATIENCE_S)
            return night.returncode, out, err

    def wait_sending(self) -> None:
        """Until the first run's archive has been begun."""
        for _ in range(round(PATIENCE_S / 0.05)):
            if list(self.results.glob("runs/*.partial/journal.bin")):
                return
            time.sleep(0.05)
        pytest.fail("no run was begun")

    def record(self) -> NightRecord:
        """The one night so far."""
        (found,) = read_records(self.results).records
        return found

    def wait_archived(self) -> Path:
        """Until the only run has been ended in order, whoever started it."""
        for _ in range(round(PATIENCE_S / 0.05)):
            (path,) = (self.results / "runs").iterdir()
            if not path.name.endswith(".partial"):
                return path
            time.sleep(0.05)
        pytest.fail("the run was not ended in order")

    def left_behind(self) -> list[str]:
        """Processes that mention the results folder."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(self.results) in words and "pytest" not in words:
                found.append(words)
        return found


@pytest.fixture
def rig(tmp_path: Path, targets: list[str], messages: Receiver) -> Rig:
    """Of this test alone."""
    return Rig(tmp_path, targets, messages)


def test_a_short_night(rig: Rig, messages: Receiver) -> None:
    """Host, smoke, comparison, trend; record, copy, message, dead-man file; and only once."""
    code, out, err = rig.run(str(rig.plan), "--now")
    record = rig.record()
    smoke, compared, trend = record.steps
    # On a machine whose CPU is taken away the generator is the limit, twice: it says so.
    assert code in {0, 3}, (out, err)
    assert record.state is (NightState.PASS if code == 0 else NightState.INCONCLUSIVE), err
    if code == 3:
        assert [one.is_of_host for one in smoke.attempts] == [True, True]
    assert len(smoke.run_ids) == len(smoke.attempts)
    assert (compared.state, trend.state) == (NightState.PASS, NightState.PASS)
    if code == 0:
        assert "expected a promoted baseline" in compared.why
        assert "of the scenario" not in trend.why
    assert record.host is not None
    assert record.cost == pytest.approx(0.68 * record.took_ns / 3.6e12)
    assert record.ended_unix_ns is not None
    # What follows a night.
    copied = msgspec.json.decode((rig.copies / f"{record.night}.json").read_bytes())
    assert copied["night"] == record.night
    (message,) = messages.messages
    assert message["title"] == f"Headroom night {record.night}: {record.state.value} (short)"
    assert message["message"].splitlines()[0] == record.why
    last = read_last_result(rig.results)
    assert last is not None
    assert (last.night, last.state) == (record.night, record.state)
    assert rig.run("--check")[0] == 0
    # Nothing secret is written, and nothing runs twice.
    written = [path.read_bytes() for path in rig.results.rglob("*") if path.is_file()]
    assert not any(b"secret" in data for data in written)
    code, _, err = rig.run(str(rig.plan), "--now")
    assert (code, "begun already" in err) == (0, True)
    assert rig.record() == record
    assert rig.left_behind() == []


def test_a_night_that_is_stopped_ends_in_order(rig: Rig, messages: Receiver) -> None:
    """SIGTERM under load: the run drains and is archived, the rest is not begun, exit code 4."""
    with rig.start(str(rig.plan), "--now") as night:
        rig.wait_sending()
        night.send_signal(signal.SIGTERM)
        night.communicate(timeout=PATIENCE_S)
    assert night.returncode == 4
    record = rig.record()
    assert [one.state for one in record.steps] == [
        NightState.ABORTED,
        NightState.NOT_RUN,
        NightState.NOT_RUN,
    ]
    assert record.state is NightState.ABORTED
    assert load_run(rig.wait_archived()).manifest.outcome is Outcome.ABORTED
    assert "aborted" in messages.messages[0]["title"]
    assert rig.left_behind() == []


def stop(results: Path) -> subprocess.CompletedProcess[str]:
    """`headroom stop` of everything."""
    return subprocess.run(
        [HEADROOM, "stop", "--reason", "it pages", "--results", str(results)],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def test_headroom_stop_ends_a_night_that_measures_its_host(rig: Rig, messages: Receiver) -> None:
    """There is no run yet and there will be none; record and message say who asked."""
    with rig.start(str(rig.plan), "--now") as night:
        assert night.stderr is not None
        assert any("measuring the host" in line for line in night.stderr)
        stopped = stop(rig.results)
        night.communicate(timeout=PATIENCE_S)
    assert (stopped.returncode, night.returncode) == (0, 4), stopped.stderr
    assert "asked to stop: night" in stopped.stderr
    record = rig.record()
    assert {one.state for one in record.steps} == {NightState.NOT_RUN}
    assert record.state is NightState.ABORTED
    assert "it pages" in record.why
    assert list(rig.results.glob("runs/*")) == []
    assert "aborted" in messages.messages[0]["title"]


def test_headroom_stop_ends_a_run_that_is_being_prepared(rig: Rig, targets: list[str]) -> None:
    """As soon as it has a folder: nothing was sent, and the archive says why."""
    words = [word for url in targets for word in ("--target", url)]
    words += ["--results", str(rig.results)]
    scenario = str(ROOT / "scenarios" / "smoke.toml")
    with subprocess.Popen([HEADROOM, "run", scenario, *words]) as run:
        for _ in range(round(PATIENCE_S / 0.005)):
            if is_under_way(rig.results):
                break
            time.sleep(0.005)
        assert not list(rig.results.glob("runs/*"))
        stopped = stop(rig.results)
        assert run.wait(PATIENCE_S) == 4
    assert stopped.returncode == 0, stopped.stderr
    assert "asked to stop: a run that is being prepared" in stopped.stderr
    archive = load_run(rig.wait_archived())
    assert archive.manifest.outcome is Outcome.ABORTED
    assert "it pages" in archive.manifest.outcome_reason
    sums = archive.manifest.total_sums
    assert sums is None or sums.sent == 0


def test_a_run_under_load_is_stopped_before_quiet_hours(rig: Rig, targets: list[str]) -> None:
    """It hangs on over its time, as it were: no request later than the edge, a whole archive."""
    text = (ROOT / "scenarios" / "smoke.toml").read_text(encoding="utf-8")
    scenario = rig.plan.with_name("long.toml")
    scenario.write_text(text.replace('duration = "10 s"', 'duration = "120 s"'), encoding="utf-8")
    assert 'duration = "120 s"' in scenario.read_text(encoding="utf-8")
    words = tuple(word for url in targets for word in ("--target", url))
    edge = Edge(at=datetime.now(tz=UTC) + timedelta(seconds=35), why="it is quiet now")
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    one = step("long", 3, scenario=scenario, arguments=words)
    children = Children(rig.results, Signals())
    tried = Steps(rig.results, terminal, children).run(one, (), edge)
    ended = datetime.now(tz=UTC)
    assert tried.state is NightState.ABORTED, tried.words
    assert tried.words.startswith("stopped in time: it is quiet now")
    manifest = load_run(rig.wait_archived()).manifest
    assert manifest.outcome is Outcome.ABORTED
    assert manifest.total_sums is not None
    assert manifest.total_sums.sent > 0
    assert ended < edge.at + timedelta(seconds=30)


def test_a_late_worker_brings_no_load_into_quiet_hours(rig: Rig) -> None:
    """Two minutes until its workers may be there, and quiet hours in two: it is not begun."""
    quiet = datetime.now(tz=UTC) + timedelta(minutes=2)
    text = rig.plan.read_text(encoding="utf-8").replace(
        "arguments = [", 'arguments = ["--expect-workers", "1", "--bind", "127.0.0.1:0", '
    )
    after = quiet + timedelta(minutes=5)
    text += f'[[quiet]]\nfrom = "{quiet:%H:%M}"\nto = "{after:%H:%M}"\n'
    rig.plan.write_text(text, encoding="utf-8")
    code, _, err = rig.run(str(rig.plan), "--now")
    assert code == 3, err
    smoke = rig.record().steps[0]
    assert (smoke.state, "in the quiet hours" in smoke.why) == (NightState.NOT_RUN, True)


def test_after_a_night_that_was_killed_the_next_one_runs(rig: Rig) -> None:
    """SIGKILL: its load ends, its record stays `running`, its lock is taken over the day after."""
    with rig.start(str(rig.plan), "--now") as night:
        rig.wait_sending()
        night.kill()
        night.wait()
    run = load_run(rig.wait_archived())
    assert run.manifest.outcome is Outcome.ABORTED
    for _ in range(600):
        if not rig.left_behind():
            break
        time.sleep(0.05)
    assert rig.left_behind() == []
    record = rig.record()
    assert (record.state, record.ended_unix_ns) == (NightState.RUNNING, None)
    assert rig.run("--check")[0] == 1  # a killed night is no result
    # As if it had been yesterday's.
    record_path(rig.results, record.night).unlink()
    yesterday = (datetime.now(tz=UTC).date() - timedelta(days=1)).isoformat()
    write_record(rig.results, msgspec.structs.replace(record, night=yesterday))
    code, _, err = rig.run(str(rig.plan), "--now")
    assert code in {0, 3}
    assert "took over the lock of night" in err
    assert len(read_records(rig.results).records) == 2
