"""`headroom report` on the command line: files, index, JSON, mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from synthetic_run import write_run

from loadtests.cli import main
from loadtests.errors import ExitCode


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one run."""
    folder = tmp_path_factory.mktemp("results")
    write_run(folder)
    return folder


def test_the_files_lie_in_the_archive_and_the_index_beside(results: Path) -> None:
    """Their paths are printed, as JSON when asked for."""
    code, out, err = call("report", "latest", "--results", str(results), "--json")
    assert code is ExitCode.PASS
    files = [Path(path) for path in json.loads(out)["files"]]
    assert [path.name for path in files] == ["report.html", "report.md", "index.html"]
    assert files[0].parent.parent.name == "runs"
    assert files[2].parent == results
    assert all(path.stat().st_size for path in files)
    assert "reading" in err
    assert call("show", "latest", "--results", str(results))[0] is ExitCode.PASS


def test_another_folder_leaves_the_results_alone(results: Path, tmp_path: Path) -> None:
    """With --output nothing is written below the results folder."""
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    output = str(tmp_path / "new" / "folder")
    code, out, _ = call("report", "latest", "--results", str(results), "--output", output)
    assert code is ExitCode.PASS
    assert [Path(line).name for line in out.splitlines()] == ["report.html", "report.md"]
    assert (tmp_path / "new" / "folder" / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


def test_several_runs_have_a_folder_each(results: Path, tmp_path: Path) -> None:
    """The same run named twice is two requests for the same files."""
    run = next(iter((results / "runs").iterdir()))
    code, out, _ = call(
        "report", "latest", str(run), "--results", str(results), "--output", str(tmp_path)
    )
    assert code is ExitCode.PASS
    assert set(out.splitlines()) == {
        str(tmp_path / run.name / name) for name in ("report.html", "report.md")
    }


def test_a_run_that_is_not_there_is_a_mistake_of_its_user(tmp_path: Path) -> None:
    """Exit code 2, with what was seen and expected."""
    code, _, err = call("report", "nothing", "--results", str(tmp_path))
    assert code is ExitCode.USAGE
    assert "'nothing', which fits 0 of 0 runs" in err


def test_a_folder_that_cannot_be_written_is_named(results: Path, tmp_path: Path) -> None:
    """A file in the way of the output folder is a sentence, no traceback."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    output = str(tmp_path / "file" / "below")
    code, _, err = call("report", "latest", "--results", str(results), "--output", output)
    assert code is ExitCode.HARNESS
    assert "below" in err
    assert "Traceback" not in err


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """And says where the files go."""
    assert call("report", "--help")[0] is ExitCode.PASS
    text = capsys.readouterr().out
    assert "example: headroom report latest" in text
    assert "--output DIR" in text
