"""The rim of the nights: plan files, the lock on disk, messages, children, archives removed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from nights import attempt, plan_of, run_night, step
from receiver import receiving
from synthetic_run import write_run

from analysis.show import write_verdict
from analysis.verdict import judge
from loadtests.cli import main
from loadtests.commands import notify
from loadtests.commands.host_reading import measure_host
from loadtests.commands.night_child import Children, Done, Signals
from loadtests.commands.night_lock import holding_the_night
from loadtests.commands.night_steps import attempt_of, is_of_host
from loadtests.commands.nightly import lengths_ns
from loadtests.errors import ExitCode, HarnessError, ScenarioError, TargetError
from loadtests.nightly.plan import load_nightly, unset_variables
from loadtests.nightly.records import (
    NightRecord,
    NightState,
    read_records,
    write_last_result,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    return main(arguments, stdout, stderr), stdout.getvalue(), stderr.getvalue()


SMALL = f"""
version = 1
name = "small"
at = "01:30"
retries = 1
[budget]
time = "1 h"
cost = 3.0
cost_per_hour = 2.5
[[quiet]]
from = "14:00"
to = "18:00"
zone = "Europe/Berlin"
[[steps]]
name = "smoke"
scenario = "{ROOT}/scenarios/smoke.toml"
arguments = ["--scale", "0.5"]
days = ["sat"]
required = true
[[steps]]
name = "trends"
do = "trend"
[retention]
nights = 30
[notify]
variables = ["HEADROOM_NOTIFY"]
"""


def small(folder: Path, before: str = "", after: str = "") -> Path:
    """A plan of one scenario, with one thing changed."""
    assert before in SMALL
    path = folder / "nightly.toml"
    path.write_text(SMALL.replace(before, after, 1) if before else SMALL, encoding="utf-8")
    return path


def test_a_plan_is_read_with_the_length_of_its_scenarios(tmp_path: Path) -> None:
    """3 s of ramp, 10 s and 5 s of grace; what it does not say is the format's default."""
    plan = load_nightly(small(tmp_path), lengths_ns)
    smoke, trends = plan.steps
    assert (smoke.join_wait_ns, smoke.most_ns) == (60 * 10**9, 78 * 10**9)
    assert (smoke.length_ns, smoke.days, smoke.is_required) == (18 * 10**9, frozenset({5}), True)
    assert (trends.scenario, trends.length_ns, len(trends.days)) == (None, 0, 7)
    assert plan.overdue_ns == 26 * 3600 * 10**9
    assert plan.budget.cost_per_hour == 2.5


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('at = "01:30"', 'at = "1:30"', "at: saw"),
        ('at = "01:30"', "", "at: saw nothing; expected this key"),
        ("retries = 1", "retries = 9", "retries: saw 9; expected 0 to 5"),
        ('time = "1 h"', 'time = "1"', "budget.time"),
        ("cost = 3.0", "", "cost_per_hour, or neither"),
        ('zone = "Europe/Berlin"', 'zone = "Europe/Ber"', "quiet[0].zone"),
        ('from = "14:00"', 'from = "24:00"', "quiet[0].from"),
        ('days = ["sat"]', 'days = ["saturday"]', "steps[0].days"),
        ("smoke.toml", "smok.toml", "smok.toml"),
        ("--scale", "--sale", "arguments of `headroom run`"),
        ('name = "trends"', 'name = "smoke"', '"smoke" 2 times'),
        ('do = "trend"', 'do = "trent"', '"run", "compare", "trend"'),
        ('do = "trend"', "", "steps[1].scenario: saw nothing"),
        ('do = "trend"', 'do = "trend"\nscenario = "x.toml"', "about the runs of the night"),
        ("required = true", "requird = true", "did you mean"),
        ("nights = 30", "nights = 0", "retention.nights"),
        ("HEADROOM_NOTIFY", "json://u:p@h", "notify.variables[0]: saw something else"),
        ("version = 1", "version = ", "file: saw"),
    ],
)
def test_mistakes_of_a_plan_are_named(
    tmp_path: Path, before: str, after: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its path; a URL that was taken for a variable's name is not repeated."""
    path = small(tmp_path, before, after)
    with pytest.raises(ScenarioError) as caught:
        load_nightly(path, lengths_ns)
    assert said in str(caught.value)
    assert "u:p" not in str(caught.value)
    capsys.readouterr()  # argparse's own words


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    """Of values, of keys and of scenarios."""
    text = SMALL.replace("01:30", "x").replace("retries = 1", "retrys = 1")
    (tmp_path / "n.toml").write_text(text.replace("smoke.toml", "no.toml"), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load_nightly(tmp_path / "n.toml", lengths_ns)
    assert len(caught.value.mistakes) == 3


def test_variables_that_are_not_set_are_named_before_the_night(tmp_path: Path) -> None:
    """A message that nobody could get is not found out in the morning."""
    plan = load_nightly(small(tmp_path), lengths_ns)
    (mistake,) = unset_variables(plan, lambda _: None)
    assert "HEADROOM_NOTIFY, which is not set" in str(mistake)
    assert unset_variables(plan, {"HEADROOM_NOTIFY": "json://localhost"}.get) == ()


def night(state: NightState = NightState.FAIL, **changes: object) -> NightRecord:
    """A night whose REST step ended so."""
    record, _ = run_night(plan_of(step("smoke"), step("rest")), script={"rest": [attempt(state)]})
    return msgspec.structs.replace(record, **changes)


HOLD = """
import sys
from pathlib import Path
from loadtests.commands.night_lock import holding_the_night
lock = holding_the_night(Path(sys.argv[1]), "2026-11-25", now_unix_ns=0,
                         until_unix_ns=9 * 10**18, say=print)
with lock:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_night(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a night until it is told anything."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other


@pytest.mark.system
def test_a_second_night_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    """By the process that holds it, alive and killed."""
    said: list[str] = []

    def hold() -> None:
        with holding_the_night(
            tmp_path, "2026-11-26", now_unix_ns=0, until_unix_ns=1, say=said.append
        ):
            pass

    with another_night(tmp_path) as other:
        with pytest.raises(TargetError, match=f"night 2026-11-25 of pid {other.pid}"):
            hold()
        other.kill()
        other.wait()
    hold()
    assert len(said) == 1
    assert f"took over the lock of night 2026-11-25 of pid {other.pid}" in said[0]
    hold()  # given back: nothing to take over
    assert len(said) == 1


def test_a_lock_that_was_taken_over_is_not_given_back(tmp_path: Path) -> None:
    """An overdue night does not free the lock of the host that did."""
    path = tmp_path / "nights" / "lock"
    with holding_the_night(tmp_path, "n", now_unix_ns=0, until_unix_ns=1, say=print):
        other = path.read_bytes().replace(b'"night":"n"', b'"night":"other"')
        path.write_bytes(other)
    assert path.read_bytes() == other


def test_a_damaged_lock_is_nobodys_to_take(tmp_path: Path) -> None:
    """It could be a night that runs."""
    (tmp_path / "nights").mkdir()
    (tmp_path / "nights" / "lock").write_text("{", encoding="utf-8")
    lock = holding_the_night(tmp_path, "n", now_unix_ns=0, until_unix_ns=1, say=print)
    with pytest.raises(HarnessError, match="look who runs"), lock:
        pass


def test_a_message_says_what_happened() -> None:
    """Title, reason, every step, what was missed; names from scenarios do nothing."""
    record = night(missed=("2026-11-25",), notes=("a \x1b[2J note",))
    with receiving() as receiver:
        url = f"json://user:secret@127.0.0.1:{receiver.port}/hook"
        assert notify.send(("A",), {"A": url}.get, record) == ()
    (message,) = receiver.messages
    assert receiver.paths[0].startswith("/hook")
    assert message["title"] == "Headroom night 2026-11-26: FAIL (nightly)"
    lines = message["message"].split("\n")
    assert lines[0] == "rest: it was FAIL"
    assert "smoke: PASS - it was PASS" in lines or "smoke: PASS" in lines
    assert "nights that were missed: 2026-11-25" in lines
    assert "a \\x1b[2J note" in lines


@pytest.mark.parametrize("url", ["", "nonsense", "json://127.0.0.1:1/secret", "nosuch://secret"])
def test_what_cannot_be_sent_is_named_by_its_variable_alone(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the URL nor what a service answered is printed or logged."""
    assert notify.send(("GOOD", "BAD"), {"BAD": url}.get, night()) == ("GOOD", "BAD")
    captured = capfd.readouterr()
    assert "secret" not in captured.out + captured.err + caplog.text


def test_a_service_that_refuses_counts_as_not_told() -> None:
    """HTTP 500 is no delivery."""
    with receiving(status=500) as receiver:
        environment = {"A": f"json://127.0.0.1:{receiver.port}/"}
        assert notify.send(("A",), environment.get, night()) == ("A",)


def done(code: int | None, document: object = None, words: str = "", late: bool = False) -> Done:  # noqa: FBT001, FBT002 - of one call
    """A child that ended so."""
    return Done(code=code, is_late=late, document=document, words=words, took_ns=1)


SEND_LAG = {"law": "send lag", "effect": "INCONCLUSIVE"}
TOO_FEW = {"law": "data", "effect": "INCONCLUSIVE"}
A_WARNING = {"law": "data", "effect": "warning"}


@pytest.mark.parametrize(
    ("findings", "is_host"),
    [
        ([SEND_LAG], True),
        ([SEND_LAG, A_WARNING], True),
        ([SEND_LAG, TOO_FEW], False),
        ([TOO_FEW], False),
        ([A_WARNING], False),
        ([], False),
    ],
)
def test_a_run_is_the_hosts_fault_only_where_nothing_else_is(
    findings: Sequence[dict[str, str]],
    is_host: bool,  # noqa: FBT001 - a table
) -> None:
    """Too few samples would be too few again."""
    document = {"findings": findings, "reasons": ["late"], "run_id": "r"}
    assert is_of_host(document) is is_host
    tried = attempt_of(done(3, document))
    assert (tried.state, tried.is_of_host, tried.run_id) == (HOST, is_host, "r")
    assert not attempt_of(done(1, document)).is_of_host


HOST = NightState.INCONCLUSIVE


@pytest.mark.parametrize(
    ("child", "state", "words"),
    [
        (done(0, {"run_id": "r"}), NightState.PASS, ""),
        (done(2, None, "error: no such file"), NightState.USAGE, "error: no such file"),
        (done(4, None, "stopped"), NightState.ABORTED, "stopped"),
        (done(5), NightState.HARNESS, "exit code 5"),
        (done(-11), NightState.HARNESS, "ended by SIGSEGV"),
        (done(-9), NightState.HARNESS, "ended by SIGKILL"),
        (done(-15), NightState.ABORTED, "ended by SIGTERM"),  # systemd: to the whole group
        (done(-2), NightState.ABORTED, "ended by SIGINT"),
        (done(141), NightState.HARNESS, "exit code 141"),
        (done(4, late=True), NightState.HARNESS, "hung, and was stopped: exit code 4"),
        (done(None, late=True), NightState.HARNESS, "hung, and was killed: exit code None"),
    ],
)
def test_how_a_child_ends_is_what_the_step_is(child: Done, state: NightState, words: str) -> None:
    """Exit codes as everywhere; what hung or crashed is a fault of ours, what was stopped not."""
    tried = attempt_of(child)
    assert (tried.state, tried.words) == (state, words)


@pytest.mark.system
def test_a_child_is_headroom_itself_and_hears_what_the_night_hears(tmp_path: Path) -> None:
    """Its JSON is read; it is stopped when it takes too long, and when the night is."""
    signals = Signals()
    children = Children(tmp_path, signals)
    listed = children.call(["runs", "--json", "--results", str(tmp_path)], 60)
    assert (listed.code, listed.document, listed.is_late) == (0, [], False)
    wrong = children.call(["show", "latest", "--results", str(tmp_path)], 60)
    assert (wrong.code, wrong.document) == (2, None)
    assert wrong.words.startswith("error: RUN: 1 mistake RUN: saw 'latest'")
    assert "expected a run id" in wrong.words
    forever = ["cluster", "--rest-port", "0", "--grpc-port", "0"]
    assert children.call(forever, 0.5).is_late
    signals.on_signal(signal.SIGTERM, None)
    stopped = children.call(forever, 60)
    assert (stopped.is_late, children.stop_reason()) == (False, "SIGTERM")


ORPHAN = """
import sys
from pathlib import Path
from loadtests.commands.night_child import Children, Signals
import subprocess
real = subprocess.Popen
def noted(*a, **k):
    child = real(*a, **k)
    print(child.pid, flush=True)
    return child
subprocess.Popen = noted
forever = ["cluster", "--rest-port", "0", "--grpc-port", "0"]
Children(Path(sys.argv[1]), Signals()).call(forever, 60)
"""


@pytest.mark.system
@pytest.mark.parametrize("hang_up", [signal.SIG_DFL, signal.SIG_IGN], ids=["plain", "nohup"])
def test_a_killed_night_leaves_no_load_behind(tmp_path: Path, hang_up: signal.Handlers) -> None:
    """SIGKILL of the night ends its child, whatever the night itself was told to ignore."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, hang_up),  # noqa: PLW1509 - one thread
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(1000):
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.03)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child outlived its night by 30 s")


def test_the_host_is_measured(tmp_path: Path) -> None:
    """Every figure is there and more than nothing; the folder is made and left clean."""
    reading = measure_host(tmp_path / "results")
    assert min(reading.cpu_ns, reading.loopback_ns, reading.disk_sync_ns) > 0
    assert reading.cores == len(os.sched_getaffinity(0))
    assert list((tmp_path / "results").iterdir()) == []


def test_check_fails_where_nights_have_stopped(tmp_path: Path) -> None:
    """0 with a PASS, FAIL or INCONCLUSIVE of the last 26 h; what measured nothing is none."""
    results = ["--results", str(tmp_path)]
    code, _, err = call("nightly", "--check", *results)
    assert (code, "no night has ended yet" in err) == (ExitCode.FAIL, True)
    write_last_result(tmp_path, night(), time.time_ns())
    code, out, _ = call("nightly", "--check", *results)
    assert (code, "night 2026-11-26: FAIL" in out) == (ExitCode.PASS, True)
    for state in (NightState.ABORTED, NightState.HARNESS, NightState.VOID, NightState.USAGE):
        nothing = msgspec.structs.replace(night(), state=state, night="2026-11-27")
        write_last_result(tmp_path, nothing, time.time_ns())
        assert "2026-11-26: FAIL" in call("nightly", "--check", *results)[1], state
    write_last_result(tmp_path, night(), time.time_ns() - 27 * 3600 * 10**9)
    code, out, _ = call("nightly", "--check", "--json", *results)
    assert (code, json.loads(out)["is_alive"]) == (ExitCode.FAIL, False)
    (tmp_path / "nights" / "last-result.json").write_text("{", encoding="utf-8")
    assert call("nightly", "--check", *results)[0] is ExitCode.HARNESS
    assert call("nightly", *results)[0] is ExitCode.USAGE


def test_what_is_not_due_is_a_document_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That nothing is, why, and when something is."""
    monkeypatch.setenv("HEADROOM_NOTIFY", "json://127.0.0.1:1/")
    tomorrow = datetime.now(tz=UTC).date() + timedelta(days=1)
    write_record(tmp_path, night(night=tomorrow.isoformat()))
    words = ["nightly", str(small(tmp_path)), "--results", str(tmp_path)]
    code, out, _ = call(*words, "--json")
    document = json.loads(out)
    assert (code, document["is_due"]) == (ExitCode.PASS, False)
    assert f"night {tomorrow} was begun already" in document["why"]
    assert document["next"] == f"{tomorrow + timedelta(days=1)}T01:30:00+00:00"
    code, out, err = call(*words)
    assert (code, out) == (ExitCode.PASS, "")
    assert "nothing is due: night" in err


def archived(results: Path, number: int) -> str:
    """A judged run that passed; its id."""
    run_id = f"2026092{number}T142640Z_good_0123abcd"
    run = write_run(results, change=lambda one: msgspec.structs.replace(one, run_id=run_id))
    verdict = judge(run)
    assert verdict.state.value == "PASS"
    write_verdict(run.path, verdict)
    return run_id


def test_prune_removes_what_may_go_and_nothing_else(tmp_path: Path) -> None:
    """Two nights with an archive each and one of somebody's own: the older night's goes."""
    old, new, own = (archived(tmp_path, number) for number in range(3))
    for day, run in (("2026-11-24", old), ("2026-11-25", new)):
        script = {"rest": [attempt(NightState.PASS, run_id=run)]}
        record, _ = run_night(plan_of(step("rest")), script=script)
        write_record(tmp_path, msgspec.structs.replace(record, night=day))
    options = ["prune", "--nights", "1", "--results", str(tmp_path)]
    code, out, _ = call(*options, "--dry-run", "--json")
    kept = [{"run_id": new, "why": "of the newest nights"}]
    assert code is ExitCode.PASS
    assert json.loads(out) == {"is_dry_run": True, "kept": kept, "gone": [old]}
    assert len(list((tmp_path / "runs").iterdir())) == 3
    code, out, _ = call(*options)
    assert (code, f"{old}" in out, "1 gone, 1 stay" in out) == (ExitCode.PASS, True, True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {new, own}


def test_a_damaged_record_of_a_night_stands_in_nobodys_way(tmp_path: Path) -> None:
    """It is named; its runs stay, other nights' go; as the last one it was begun all the same."""
    old, lost, new = (archived(tmp_path, number) for number in range(3))
    for day, run in (("2026-11-23", old), ("2026-11-24", lost), ("2026-11-25", new)):
        record, _ = run_night(
            plan_of(step("rest")), script={"rest": [attempt(NightState.PASS, run_id=run)]}
        )
        write_record(tmp_path, msgspec.structs.replace(record, night=day))
    (tmp_path / "nights" / "2026-11-24.json").write_text("{", encoding="utf-8")
    code, _, err = call("prune", "--nights", "1", "--results", str(tmp_path))
    assert (code, "2026-11-24.json" in err) == (ExitCode.PASS, True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {lost, new}
    assert read_records(tmp_path).last == "2026-11-25"
    (tmp_path / "nights" / "2026-11-25.json").write_text("{", encoding="utf-8")
    assert read_records(tmp_path).last == "2026-11-25"


def test_what_was_half_removed_goes_with_the_next(tmp_path: Path) -> None:
    """A prune that was killed leaves no archive that is one no more."""
    (tmp_path / "runs" / ".20260921T142640Z_good_0123abcd.going" / "deep").mkdir(parents=True)
    assert call("runs", "--results", str(tmp_path))[2].startswith("no runs")
    assert call("prune", "--results", str(tmp_path))[0] is ExitCode.PASS
    assert list((tmp_path / "runs").iterdir()) == []
