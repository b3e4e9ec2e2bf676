"""Archives on the command line: damage is said, and every end has its exit code."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from analysis.judging import State
from loadtests.cli import main
from loadtests.commands.archive import list_archives
from loadtests.commands.dispatch import build_parser
from loadtests.commands.judgement import exit_code_of, judge_and_store
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.plan.codec import encode_plan
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.record.archive import create_archive
from loadtests.record.manifest import Outcome
from loadtests.swarm.books import draft_manifest

SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "smoke.toml"
ENDS = {
    Outcome.COMPLETE: ExitCode.INCONCLUSIVE,
    Outcome.ABORTED: ExitCode.ABORTED,
    Outcome.CRASHED: ExitCode.HARNESS,
}


def archive(results: Path, outcome: Outcome = Outcome.ABORTED) -> Path:
    """A judged archive of a run that sent nothing."""
    plan = resolve(load_scenario(SCENARIO), scale=1.0, seed=None, targets=())
    data = encode_plan(plan)
    draft = draft_manifest(plan, data, command=(), target_version=None, warnings=())
    writer = create_archive(results, draft, data)
    end = msgspec.structs.replace(draft, outcome=outcome, outcome_reason="the test says so")
    path = writer.finish(end)
    judge_and_store(path)
    return path


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.mark.parametrize("state", State)
def test_the_verdict_decides_only_for_a_run_that_came_to_its_end(state: State) -> None:
    """One function makes every exit code of a run: aborts and crashes have their own."""
    assert exit_code_of(Outcome.COMPLETE, state).name == state.value
    assert exit_code_of(Outcome.ABORTED, state) is ExitCode.ABORTED
    assert exit_code_of(Outcome.CRASHED, state) is ExitCode.HARNESS
    assert exit_code_of(Outcome.RUNNING, state) is ExitCode.HARNESS


@pytest.mark.parametrize("outcome", ENDS)
def test_show_has_the_exit_code_of_the_end(tmp_path: Path, outcome: Outcome) -> None:
    """`show` says of an archive what `run` said; `runs` shows the end beside the verdict."""
    path = archive(tmp_path, outcome)
    code, _, _ = call("show", str(path))
    assert code is ENDS[outcome]
    _, table, _ = call("runs", "--results", str(tmp_path))
    assert outcome.value in table
    assert "INCONCLUSIVE" in table


def test_a_run_that_never_started_gives_one_reason(tmp_path: Path) -> None:
    """What follows from the first reason is left out, and there is no table of nothing."""
    _, page, _ = call("show", str(archive(tmp_path)))
    reasons = [line for line in page.splitlines() if line.startswith("  - ")]
    assert len(reasons) == 1
    assert "the test says so" in reasons[0]
    assert "Conservation" not in page


@pytest.mark.parametrize("name", ["verdict.json", "run.json", "SHA256SUMS"])
def test_a_changed_archive_has_no_verdict_in_a_list(tmp_path: Path, name: str) -> None:
    """A forged verdict, an edited manifest or missing checksums are damage, with the file."""
    path = archive(tmp_path)
    text = (path / name).read_text(encoding="utf-8")
    (path / name).write_text(text.replace("INCONCLUSIVE", "PASS") + " ", encoding="utf-8")
    code, table, problems = call("runs", "--results", str(tmp_path))
    assert code is ExitCode.PASS
    assert "damaged" in table
    assert "PASS" not in table
    assert "INCONCLUSIVE" not in table
    assert name in problems
    (document,) = json.loads(call("runs", "--json", "--results", str(tmp_path))[1])
    assert (document["state"], document["verdict"]) == ("damaged", "?")


def test_a_list_cuts_neither_ids_nor_verdicts(tmp_path: Path) -> None:
    """On a terminal of 80 columns and in a pipe the id can be copied, the verdict read."""
    path = archive(tmp_path)
    arguments = build_parser().parse_args(["runs", "--results", str(tmp_path)])
    for width in (40, 80):
        terminal, out = Terminal(stdout=io.StringIO(), stderr=io.StringIO()), io.StringIO()
        terminal.out = Console(file=out, width=width)
        list_archives(arguments, terminal)
        assert path.name in out.getvalue()
        assert "INCONCLUSIVE" in out.getvalue()
    assert path.name in call("runs", "--results", str(tmp_path))[1]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_that_is_no_run_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An empty name and a folder without an archive are named; exit code 2."""
    monkeypatch.chdir(tmp_path)
    archive(tmp_path)
    code, _, stderr = call("show", name, "--results", str(tmp_path))
    assert code is ExitCode.USAGE
    assert (str(Path(name).resolve()) if name else "''") in stderr


def test_a_reader_that_left_is_not_a_verdict(tmp_path: Path) -> None:
    """Output into a closed pipe ends with 141, as shells count SIGPIPE, and no traceback."""
    path = archive(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    program = "from loadtests.cli import console; console()"
    done = subprocess.run(
        [sys.executable, "-c", program, "show", str(path)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_verify_names_what_is_wrong(tmp_path: Path) -> None:
    """0 for a sound archive; 5 and the file for one wrong bit, for people and machines."""
    path = archive(tmp_path)
    code, out, err = call("verify", "latest", "--results", str(tmp_path))
    assert (code, out) == (ExitCode.PASS, "")
    assert "sound" in err
    data = bytearray((path / "verdict.json").read_bytes())
    data[3] ^= 1
    (path / "verdict.json").write_bytes(data)
    code, out, err = call("verify", str(path), "--json")
    assert code is ExitCode.HARNESS
    document = json.loads(out)
    assert document["is_sound"] is False
    assert "verdict.json" in document["findings"][0]
    assert "verdict.json" in err


def test_a_run_that_goes_on_is_not_verified(tmp_path: Path) -> None:
    """It has no checksums yet, and that is no damage."""
    path = archive(tmp_path)
    partial = path.rename(path.with_name(f"{path.name}.partial"))
    with (partial / "journal.bin").open("wb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        code, _, err = call("verify", str(partial))
    assert (code, "a run that goes on" in err) == (ExitCode.USAGE, True)


def test_results_are_a_folder(tmp_path: Path) -> None:
    """A file in its place is no empty list."""
    (tmp_path / "file").touch()
    code, _, err = call("runs", "--results", str(tmp_path / "file"))
    assert (code, "expected a folder" in err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "a scenario file, or --resume RUN"),
        (("--resume", "latest", "mine.toml"), "SCENARIO: saw given with --resume"),
        (("--resume", "latest", "--scale", "0.5"), "--scale: saw given with --resume"),
        (("--resume", "nowhere"), "fits 0 of"),
    ],
    ids=["neither", "a scenario too", "a scale", "no such run"],
)
def test_a_mistake_with_resume_is_a_sentence(
    tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    """What would change a run that is under way is refused, like a run that is not there."""
    code, _, err = call("run", *words, "--results", str(tmp_path))
    assert code is ExitCode.USAGE
    assert expected in err


def test_a_complete_run_is_not_resumed(tmp_path: Path) -> None:
    """A mistake of the user, and the archive is as it was."""
    path = archive(tmp_path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    code, _, err = call("run", "--resume", "latest", "--results", str(tmp_path))
    assert code is ExitCode.USAGE
    assert "a complete run" in err
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
