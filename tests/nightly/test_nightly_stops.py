"""What ends a night besides its plan: stop files, `headroom stop`, the edge of its windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from nights import HOUR_NS, FakeClock, unix_ns
from test_nightly_rim import another_night, call, night

from loadtests.clock import NS_PER_S
from loadtests.commands.night_child import Children, Signals
from loadtests.commands.night_lock import holding_the_night, night_under_way
from loadtests.commands.night_steps import attempt_of
from loadtests.errors import ExitCode
from loadtests.nightly.records import NightState, write_last_result, write_record
from loadtests.nightly.windows import Edge
from loadtests.record.stop_file import STOP_FILE, KillSwitch, ask_to_stop, under_way

FOREVER = ["cluster", "--rest-port", "0", "--grpc-port", "0"]
EDGE = Edge(at=datetime(2026, 11, 26, 4, tzinfo=UTC), why="04:00 UTC is in the quiet hours")


def test_the_kill_switch_is_for_what_began_before_it(tmp_path: Path) -> None:
    """An old file means nothing; one that is written, or touched, later does; it stays."""
    path = tmp_path / STOP_FILE
    assert KillSwitch(tmp_path).asked() is None
    path.touch()
    os.utime(path, ns=(0, 0))
    switch = KillSwitch(tmp_path)
    assert switch.asked() is None
    ask_to_stop(tmp_path, "it pages")
    assert switch.asked() == "it pages"
    path.write_text("", encoding="ascii")
    assert switch.asked() == ""
    assert KillSwitch(tmp_path, began_unix_ns=time.time_ns() + NS_PER_S).asked() is None


@pytest.mark.system
def test_a_process_began_when_it_began(tmp_path: Path) -> None:
    """A file of just before a process is not for it, one of just after is."""
    asks = (
        "import sys; from pathlib import Path; from loadtests.record.stop_file import KillSwitch;"
        "sys.stdin.readline(); print(KillSwitch(Path(sys.argv[1])).asked())"
    )
    for is_before in (True, False):
        if is_before:
            ask_to_stop(tmp_path, "x")
            time.sleep(0.05)
        with subprocess.Popen(
            [sys.executable, "-c", asks, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            if not is_before:
                time.sleep(0.05)
                ask_to_stop(tmp_path, "x")
            assert process.communicate("\n")[0] == ("None\n" if is_before else "x\n")


@pytest.mark.system
@pytest.mark.parametrize("way", ["command", "touch"])
def test_a_step_hears_the_stop_file(tmp_path: Path, way: str) -> None:
    """Whether its run has a folder or not: its child is told, and the night has its reason."""
    children = Children(tmp_path, Signals())
    assert children.stop_reason() == ""
    if way == "command":
        call("stop", "--reason", "it pages", "--results", str(tmp_path))
    else:
        (tmp_path / STOP_FILE).touch()
    done = children.call(FOREVER, 60)
    assert not done.is_late
    assert ("it pages" if way == "command" else "no reason given") in children.stop_reason()
    assert children.stop_reason().startswith("the stop file")


@pytest.mark.system
def test_a_step_is_stopped_before_the_edge(tmp_path: Path) -> None:
    """15 s before it, by this clock: in time for an agent that only its lease ends."""
    clock = FakeClock(unix_ns("2026-11-26T03:59:44"))
    children = Children(tmp_path, Signals(), clock)
    assert children.call(FOREVER, 1.0, EDGE).edge == ""
    clock.now_ns += NS_PER_S
    done = children.call(FOREVER, 60, EDGE)
    assert (done.is_late, done.edge) == (False, EDGE.why)
    # As a run does that is stopped half-way: a cluster that was up by then ends with 0.
    half_way = msgspec.structs.replace(done, code=ExitCode.INCONCLUSIVE)
    assert attempt_of(half_way).words.startswith(f"stopped in time: {EDGE.why}")


@pytest.mark.system
def test_headroom_stop_tells_the_night_between_its_runs(tmp_path: Path) -> None:
    """It names the night that holds the lock, and waits for it; without one it is exit code 2."""
    stop = ["stop", "--results", str(tmp_path), "--wait", "0.3"]
    code, _, err = call(*stop)
    assert (code, "no running run and no night" in err) == (ExitCode.USAGE, True)
    with another_night(tmp_path) as holding:
        holder = night_under_way(tmp_path)
        assert holder is not None
        assert holder.pid == holding.pid
        code, _, err = call(*stop)
        assert (code, "asked to stop: night 2026-11-25" in err) == (ExitCode.HARNESS, True)
        assert "night 2026-11-25 has not ended" in err
        holding.communicate()
    assert night_under_way(tmp_path) is None
    assert call(*stop)[0] is ExitCode.USAGE


def test_headroom_stop_tells_a_run_that_is_being_prepared(tmp_path: Path) -> None:
    """It has no folder yet; who holds on has not ended."""
    stop = ["stop", "--results", str(tmp_path), "--wait", "0.2", "--json"]
    with under_way(tmp_path):
        code, out, err = call(*stop)
    assert (code, "a run that is being prepared" in err) == (ExitCode.HARNESS, True)
    assert '"has_ended": false' in out
    assert call(*stop)[0] is ExitCode.USAGE


@pytest.mark.parametrize(
    ("until_h", "is_alive"), [(1, True), (-1, False)], ids=["in its time", "overdue"]
)
def test_check_knows_of_the_night_that_is_under_way(
    tmp_path: Path,
    until_h: int,
    is_alive: bool,  # noqa: FBT001 - a table
) -> None:
    """30 h without a result are no silence 7 h into a night, as long as it is in its time."""
    now_ns = time.time_ns()
    record = msgspec.structs.replace(
        night(night="2026-11-28"), started_unix_ns=now_ns - 7 * HOUR_NS, state=NightState.RUNNING
    )
    write_record(tmp_path, record)
    write_last_result(tmp_path, night(), now_ns - 30 * HOUR_NS)
    check = ["nightly", "--check", "--results", str(tmp_path)]
    assert call(*check)[0] is ExitCode.FAIL
    until_ns = now_ns + until_h * HOUR_NS
    with holding_the_night(
        tmp_path, "2026-11-28", now_unix_ns=now_ns, until_unix_ns=until_ns, say=print
    ):
        code, out, _ = call(*check)
        assert (code is ExitCode.PASS, "2026-11-28 is under way" in out) == (is_alive, is_alive)
        document = json.loads(call(*check, "--json")[1])
        assert document["under_way"] == ("2026-11-28" if is_alive else None)
    assert call(*check)[0] is ExitCode.FAIL
