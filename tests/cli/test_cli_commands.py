"""The command line answers mistakes with sentences and exit codes, never with tracebacks."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.cli import main
from loadtests.commands.dispatch import MODULES, build_parser
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
COMMANDS = (
    *("demo", "run", "worker", "check", "cluster", "calibrate", "size", "runs", "show", "baseline"),
    *("report", "compare", "trend", "capacity", "failover", "nightly", "prune", "verify"),
    *("keys", "stop"),
)


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No calibration and no configuration of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADROOM_CONFIG", raising=False)


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


PARSERS = {parser.prog: parser for parser in parsers(build_parser())}


def test_all_commands_are_known_here() -> None:
    """The tests of every command are of every command."""
    assert {name.split(" ")[1] for name in PARSERS if " " in name} == set(COMMANDS)
    assert {"headroom baseline promote", "headroom baseline list"} < set(PARSERS)


def test_each_command_is_found_where_it_is_looked_for() -> None:
    """A command loaded alone is the one that all together have."""
    assert set(MODULES) == set(COMMANDS)
    for name in MODULES:
        alone = {parser.prog for parser in parsers(build_parser([name]))}
        assert f"headroom {name}" in alone


@pytest.mark.parametrize("words", [("--version",), ("worker", "--help"), ("cluster", "--help")])
def test_an_agent_loads_no_numerics_of_verdicts(words: tuple[str, ...]) -> None:
    """Pandas, SciPy and Matplotlib take two seconds and 100 MB, which agents do not need."""
    program = (
        "import io, sys; from loadtests.cli import main; "
        f"main({words!r}, io.StringIO(), io.StringIO()); "
        "print([name for name in ('pandas', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", PARSERS)
def test_every_help_says_what_and_how(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence, a line for every option, and an example that can be copied."""
    parser = PARSERS[name]
    words = name.split(" ")[1:]
    assert main([*words, "--help"], io.StringIO(), io.StringIO()) is ExitCode.PASS
    text = capsys.readouterr().out
    assert f"example: {name}" in text
    assert parser.description
    assert [action.dest for action in parser._actions if not action.help] in (
        [],
        ["command"],
        ["verb"],
    )


@pytest.mark.parametrize(
    "name",
    ["run", "check", "runs", "show", "calibrate", "baseline list", "cluster", "capacity search"],
)
def test_every_table_has_its_json(name: str) -> None:
    """Whatever prints a table takes --json."""
    options = {
        text for action in PARSERS[f"headroom {name}"]._actions for text in action.option_strings
    }
    assert "--json" in options


def test_names_in_messages_do_nothing_to_a_terminal() -> None:
    """Lines stay lines; escapes are shown and what has no end is cut."""
    stderr = io.StringIO()
    Terminal(stdout=io.StringIO(), stderr=stderr).error("first\n  \x1b[31mred " + "x" * 10_000)
    assert "\x1b" not in stderr.getvalue()
    assert "\\x1b[31mred" in stderr.getvalue()
    assert stderr.getvalue().count("\n") == 2
    assert len(stderr.getvalue()) < 3000


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is no command ends with exit code 2 and the known ones."""
    assert main(["lanuch"], io.StringIO(), io.StringIO()) is ExitCode.USAGE
    assert "calibrate" in capsys.readouterr().err


def test_all_mistakes_of_a_scenario_at_once(tmp_path: Path) -> None:
    """Each mistake is reported with its path and what was expected; exit code 2."""
    path = tmp_path / "bad.toml"
    path.write_text(
        (SCENARIOS / "smoke.toml")
        .read_text(encoding="utf-8")
        .replace('rate = "200 rps"', 'rate = "200 rqs"')
        .replace("connections = 64", "conections = 64"),
        encoding="utf-8",
    )
    code, stdout, stderr = call("check", str(path))
    assert code is ExitCode.USAGE
    assert stdout == ""
    assert "stages[1].rate" in stderr
    assert "conections" in stderr
    assert "Traceback" not in stderr


def test_a_missing_file_is_a_sentence() -> None:
    """A scenario that is not there names itself; exit code 2."""
    code, _, stderr = call("run", "nowhere.toml")
    assert code is ExitCode.USAGE
    assert "nowhere.toml" in stderr


def test_check_prints_the_concurrency_that_the_target_implies() -> None:
    """776,000 requests/s at 200 ms are 155,200 in flight, printed with the plan."""
    _, stdout, _ = call("check", str(SCENARIOS / "rest-100.toml"))
    assert "776,000" in stdout
    assert "155,200" in stdout


def test_check_prints_what_messages_cost() -> None:
    """Streams by Little's law, and each kind of gRPC message with what it costs here."""
    path = str(SCENARIOS / "grpc-100.toml")
    _, stdout, _ = call("check", path)
    assert "1,250 channels x 100 streams" in stdout
    assert all(kind in stdout for kind in ("varying length", "fixed width", "constant"))
    _, document, _ = call("check", "--json", path)
    messages = json.loads(document)[0]["messages"]
    assert {one["kind"] for one in messages} == {"varying length", "fixed width", "constant"}
    assert all(one["render_ns"] > 0 for one in messages)


def test_a_plan_that_cannot_reach_its_rate_is_refused() -> None:
    """160,000 connections do not fit one process: exit code 2, nothing started."""
    code, _, stderr = call("run", str(SCENARIOS / "rest-100.toml"))
    assert code is ExitCode.USAGE
    assert "--force" in stderr
    assert "descriptors" in stderr


def test_a_foreign_target_is_refused_by_default() -> None:
    """Without an entry in the configuration only loopback gets load; exit code 4."""
    code, _, stderr = call(
        "run", str(SCENARIOS / "smoke.toml"), "--target", "http://192.0.2.1:9003"
    )
    assert code is ExitCode.ABORTED
    assert "192.0.2.1" in stderr


def test_check_as_json_says_what_its_tables_say(tmp_path: Path) -> None:
    """Plan, resources and findings; a file with mistakes has its mistakes in its place."""
    bad = tmp_path / "bad.toml"
    bad.write_text("version = 7", encoding="utf-8")
    code, stdout, stderr = call("check", "--json", str(bad), str(SCENARIOS / "smoke.toml"))
    assert code is ExitCode.USAGE
    wrong, right = json.loads(stdout)
    assert wrong["scenario"] == str(bad)
    assert wrong["mistakes"][0] == {
        "where": "version",
        "seen": "7",
        "expected": "1, the only version so far",
    }
    assert all(mistake["where"] in stderr for mistake in wrong["mistakes"])
    assert right["mistakes"] == []
    assert right["can_reach"] is True
    assert right["plan"]["name"] == "smoke"
    assert right["plan"]["stages"][0] == {"name": "warm-up", "is_judged": False}
    assert [stage["stage"] for stage in right["feasibility"]["stages"]] == ["warm-up", "steady"]


def test_check_as_json_is_one_document() -> None:
    """--json prints the same findings for machines, also for several scenarios."""
    paths = [str(path) for path in sorted(SCENARIOS.glob("rest-*.toml"))]
    code, stdout, _ = call("check", "--json", *paths)
    assert code is ExitCode.USAGE  # none of them can run from one host
    assert [document["scenario"] for document in json.loads(stdout)] == paths


def test_every_shipped_scenario_is_valid() -> None:
    """Shipped files have no mistakes; small scales of the profiles can run here."""
    for path in sorted(set(SCENARIOS.glob("*.toml")) - {SCENARIOS / "nightly.toml"}):  # a plan
        code, _, stderr = call("check", str(path), "--scale", "0.001")
        assert code is ExitCode.PASS, (path, stderr)


def test_no_runs_is_an_empty_list(tmp_path: Path) -> None:
    """A results folder without runs is no error."""
    assert call("runs", "--json", "--results", str(tmp_path))[:2] == (ExitCode.PASS, "[]\n")


def test_an_unknown_run_is_named(tmp_path: Path) -> None:
    """`show` of nothing says what it looked for and where; exit code 2."""
    code, _, stderr = call("show", "20260101", "--results", str(tmp_path))
    assert code is ExitCode.USAGE
    assert "20260101" in stderr
    assert str(tmp_path) in stderr


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "many"])
def test_scale_must_be_a_positive_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A scale that is no finite number above zero is refused before anything is read."""
    arguments = ["check", str(SCENARIOS / "smoke.toml"), f"--scale={text}"]
    assert main(arguments, io.StringIO(), io.StringIO()) is ExitCode.USAGE
    assert "--scale" in capsys.readouterr().err


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_no_color_takes_the_colours_away(monkeypatch: pytest.MonkeyPatch, no_colour: str) -> None:
    """Tables and errors are coloured on a terminal, and not with NO_COLOR (no-color.org)."""
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stdout, stderr = Tty(), Tty()
    assert main(["check", "nowhere.toml", str(SCENARIOS / "rest-100.toml")], stdout, stderr) == 2
    for text in (stdout.getvalue(), stderr.getvalue()):
        assert (COLOUR.search(text) is None) == bool(no_colour)


@pytest.mark.system
def test_a_cluster_as_json_is_one_line_when_it_is_ready() -> None:
    """A script can read where the nodes are from the first line, while they run."""
    program = "from loadtests.cli import console; console()"
    words = [sys.executable, "-c", program, "cluster", "--nodes", "2"]
    process = subprocess.Popen(
        [*words, "--rest-port", "0", "--grpc-port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        assert "not Aurigraph" in document["notice"]
        assert len(document["nodes"]) == 2
        for node in document["nodes"]:
            with urllib.request.urlopen(f"{node['url']}/q/health", timeout=10) as answer:
                assert answer.status == 200
            assert node["grpc_url"].startswith("http://127.0.0.1:")
    finally:
        process.terminate()
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (0, "", "stopping\n")


def test_no_colour_reaches_a_pipe() -> None:
    """Piped output holds no escape sequences."""
    _, stdout, stderr = call("check", str(SCENARIOS / "smoke.toml"))
    assert "\x1b" not in stdout + stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("check", "x.toml", "--scale", "abc"), "saw 'abc'; expected a number above 0"),
        (
            ("check", "x.toml", "--engines", "x"),
            "expected a whole number from 1 to 1000000000, or auto",
        ),
        (("worker", "--master", "h:x"), "saw 'x'; expected a port"),
        (("worker", "--master", ":1"), "expected HOST, HOST:PORT or [IPV6]:PORT"),
        (("check", "x.toml", "--seed", "-1"), "expected a whole number from 0"),
    ],
)
def test_an_option_says_what_it_expects(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No name of a function of ours, and nothing of argparse's, in a usage error."""
    assert main(arguments, io.StringIO(), io.StringIO()) is ExitCode.USAGE
    assert expected in capsys.readouterr().err


def test_check_refuses_a_foreign_target() -> None:
    """What `run` would refuse is a mistake of `check`, with what to write."""
    target = ("--target", "http://192.0.2.1:9003")
    code, _, stderr = call("check", str(SCENARIOS / "smoke.toml"), *target)
    assert code is ExitCode.USAGE
    assert '[authorised_targets."192.0.2.1"]' in stderr


@pytest.mark.parametrize(
    ("value", "seen"), [(None, "not set"), ("", "empty"), ("a\r\nX: y", "control characters")]
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_variables_are_looked_at_before_anything_starts(
    command: str, value: str | None, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that the engines here cannot fill is a mistake; its value is not printed."""
    monkeypatch.delenv("HEADROOM_TEST_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("HEADROOM_TEST_TOKEN", value)
    text = (SCENARIOS / "smoke.toml").read_text(encoding="utf-8")
    scenario = tmp_path / "token.toml"
    header = 'headers = { X-Token = "${env:HEADROOM_TEST_TOKEN}" }\n'
    head, request, rest = text.partition("[[requests]]\n")
    rest = "\n".join(line for line in rest.split("\n") if not line.startswith("headers"))
    scenario.write_text(head + request + header + rest, encoding="utf-8")
    code, _, stderr = call(command, str(scenario))
    assert code is ExitCode.USAGE
    assert "${env:HEADROOM_TEST_TOKEN}" in stderr
    assert seen in stderr
    assert stderr.count(": saw ") == 1


def test_a_pipe_in_place_of_a_scenario_is_refused(tmp_path: Path) -> None:
    """A FIFO is named and not opened, which would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    code, _, stderr = call("check", str(tmp_path / "fifo"))
    assert code is ExitCode.USAGE
    assert "not a regular file" in stderr


@pytest.mark.parametrize("text", ["${int:A:B}", ":smile: [bold]x[/bold]"])
def test_texts_are_printed_as_they_are(text: str) -> None:
    """No emoji and no markup is made of what an author wrote."""
    stdout, stderr = Tty(), Tty()
    terminal = Terminal(stdout=stdout, stderr=stderr)
    terminal.error(text)
    terminal.say(text)
    terminal.out.print(text)
    assert (stderr.getvalue() + stdout.getvalue()).count(text) == 3


def test_a_fault_of_our_own_is_not_a_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody expected has the harness's exit code, not Python's 1."""
    monkeypatch.setattr("loadtests.commands.archive.list_runs", lambda _: 1 / 0)
    code, _, stderr = call("runs")
    assert code is ExitCode.HARNESS
    assert "ZeroDivisionError" in stderr


def test_a_web_ui_for_everybody_needs_a_login_and_tls(tmp_path: Path) -> None:
    """Refused before anything starts, with what it needs; an option without --web as well."""
    words = ["run", str(SCENARIOS / "smoke.toml"), "--results", str(tmp_path / "results")]
    code, _, stderr = call(*words, "--web", "--web-host", "0.0.0.0")
    assert code is ExitCode.USAGE
    assert "--web-login" in stderr
    assert "--tls-cert" in stderr
    code, _, stderr = call(*words, "--web-read-only")
    assert code is ExitCode.USAGE
    assert "--web with it" in stderr
    assert not (tmp_path / "results").exists()


def test_an_address_without_workers_is_refused() -> None:
    """--bind is where expected workers connect: alone it would do nothing, and say nothing."""
    code, _, stderr = call("run", str(SCENARIOS / "smoke.toml"), "--bind", "203.0.113.9")
    assert (code, "--bind: saw an address without --expect-workers" in stderr) == (
        ExitCode.USAGE,
        True,
    )
