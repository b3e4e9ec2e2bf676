"""`headroom report` on the command line: files, index, JSON, mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from synthetic_run import write_run

from analysis.text import utc
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
    """Two runs lie below the output folder, one named twice in it."""
    run = next(iter((results / "runs").iterdir()))
    other = write_run(
        tmp_path / "other", change=lambda m: msgspec.structs.replace(m, run_id=f"{m.run_id[:-1]}f")
    )
    options = ("--results", str(results), "--output", str(tmp_path / "out"))
    code, out, _ = call("report", "latest", str(other.path), *options)
    assert code is ExitCode.PASS
    names = ("report.html", "report.md")
    assert set(out.splitlines()) == {
        str(tmp_path / "out" / one / name) for one in (run.name, other.path.name) for name in names
    }
    _, out, said = call("report", "latest", str(run), str(run.resolve()), *options)
    assert out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert said.count("reading") == 1


def test_promoting_renews_the_index(tmp_path: Path) -> None:
    """The new baseline stands in it, with the report that its run has."""
    run = write_run(tmp_path)
    assert call("report", "latest", "--results", str(tmp_path))[0] is ExitCode.PASS
    before = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert call("baseline", "promote", "latest", "--results", str(tmp_path))[0] is ExitCode.PASS
    after = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "None yet." in before
    assert "None yet." not in after
    assert after.count(run.manifest.run_id) > before.count(run.manifest.run_id)
    assert f"runs/{run.manifest.run_id}/report.html" in after


def test_a_run_begins_at_its_t0_everywhere(tmp_path: Path) -> None:
    """`show`, the report and the index give one time."""
    run = write_run(tmp_path)
    call("report", "latest", "--results", str(tmp_path))
    _, page, _ = call("show", "latest", "--results", str(tmp_path))
    assert run.manifest.t0_unix_ns is not None
    assert run.manifest.t0_unix_ns != run.manifest.created_unix_ns
    began = utc(run.manifest.t0_unix_ns)
    assert f"started {began}" in page
    assert f"- Started {began}" in (run.path / "report.md").read_text(encoding="utf-8")
    assert began in (tmp_path / "index.html").read_text(encoding="utf-8")


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
