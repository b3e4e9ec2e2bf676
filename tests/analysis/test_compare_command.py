"""`headroom compare`: sides, options and exit codes, on archives of two minutes."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest
from compared_runs import drawn_run, failing, run_id, slower

from loadtests.cli import main
from loadtests.errors import ExitCode


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same code, the first one a baseline; then a slow one and a failing one."""
    folder = tmp_path_factory.mktemp("results")
    for number, change in ((1, slower(1.0)), (2, slower(1.0)), (3, slower(1.3))):
        drawn_run(folder, number, change=change)
    drawn_run(folder, 4, change=failing(4))
    assert call("baseline", "promote", run_id(1), "--results", str(folder))[0] is ExitCode.PASS
    return folder


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


def compare(results: Path, *arguments: str) -> tuple[ExitCode, str, str]:
    """Call with a threshold that runs of two minutes can show."""
    options = ("--results", str(results), "--threshold", "20%", "--error-threshold", "3 %")
    return call("compare", *options, *arguments)


def test_the_exit_code_is_the_decision(results: Path) -> None:
    """Same and improved 0, regressed 1, what could not have been seen 3."""
    code, page, _ = compare(results, run_id(1), run_id(2), "--percentiles", "50")
    assert code is ExitCode.PASS
    assert page.startswith("SAME  good")
    assert "~" in page
    assert compare(results, run_id(1), run_id(3))[0] is ExitCode.FAIL
    assert compare(results, run_id(3), run_id(1), "--percentiles", "50")[0] is ExitCode.PASS
    code, page, _ = compare(results, run_id(1), run_id(2), "--threshold", "0.1%")
    assert code is ExitCode.INCONCLUSIVE
    assert page.startswith("UNSTABLE")


def test_json_and_markdown_say_the_same(results: Path, tmp_path: Path) -> None:
    """One document for machines, one page for a pull request."""
    file = tmp_path / "compared.md"
    code, text, _ = compare(
        results, run_id(1), run_id(4), "--percentiles", "p50", "--json", "--markdown", str(file)
    )
    document, page = json.loads(text), file.read_text(encoding="utf-8")
    assert code is ExitCode.FAIL
    assert document["decision"] == "regressed"
    assert page.startswith("# regressed: good\n")
    errors = [one for one in document["effects"] if one["measure"] == "error_ratio"]
    assert {one["request"] for one in errors} == {None, "read", "submit"}
    assert all(one["change_low"] > 0.15 for one in errors)
    assert page.count("| error\\_ratio |") + page.count("| error_ratio |") == 3


def test_a_baseline_is_found_with_or_without_its_archive(results: Path, tmp_path: Path) -> None:
    """The newest baseline of the scenario; without its archive there are points and a reason."""
    code, page, _ = compare(results, "baseline", run_id(2), "--percentiles", "50")
    assert code is ExitCode.PASS
    assert f"before: {run_id(1)}" in page
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    shutil.rmtree(copy / "runs" / run_id(1))
    code, page, _ = compare(copy, f"baseline:{run_id(1)}", run_id(2))
    assert code is ExitCode.INCONCLUSIVE
    assert "the baseline's archive is gone" in page
    assert "n too small" in page


def test_sides_may_have_several_runs(results: Path) -> None:
    """Commas between; the method says that runs are the units."""
    _, page, _ = compare(results, f"{run_id(1)},{run_id(2)}", run_id(3), "--percentiles", "50")
    assert "runs as units" in page
    assert f"before: {run_id(1)}, {run_id(2)}" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((run_id(1), run_id(1)), "twice"),
        ((run_id(1), "nothing"), "fits 0 of 4 runs"),
        (("baseline", "baseline"), "a run on at least one side"),
        (("baseline:nothing", run_id(1)), "fits 0 of 1 baselines"),
        (("baseline", run_id(1)), "none of scenario 'good'"),
        ((run_id(1), run_id(2), "--threshold", "0"), "a percentage above 0"),
        ((run_id(1), run_id(2), "--alpha", "2"), "a probability"),
        ((run_id(1), run_id(2), "--percentiles", "100"), "percentiles above 0"),
        ((run_id(1), run_id(2), "--allow", "everything"), "load, scale, stages, mix"),
        (
            (run_id(1), run_id(2), "--markdown", "/nowhere/page.md"),
            "a folder that is there",
        ),
    ],
)
def test_mistakes_are_named(
    results: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was seen and what was expected, without a traceback; exit code 2."""
    code, _, stderr = compare(results, *arguments)
    stderr += capsys.readouterr().err  # where argparse prints
    assert said in stderr
    assert code is ExitCode.USAGE
    assert "Traceback" not in stderr


def test_help_has_the_exit_codes_and_an_example() -> None:
    """Who decides by the exit code reads it there."""
    code, text, _ = help_text()
    assert code is ExitCode.PASS
    assert "1 regressed, 3 unstable" in text
    assert "headroom compare baseline latest" in text


def help_text() -> tuple[ExitCode, str, str]:
    """The help goes to the process's own standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code, _, stderr = call("compare", "--help")
    return code, out.getvalue(), stderr
