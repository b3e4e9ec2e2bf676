"""From an archive to a printed verdict and an exit code.

The exit code of an aborted run is its abort's; a complete run's is its verdict's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import RenderableType
from rich.markup import escape

from analysis.judging import State
from analysis.show import show, to_json, write_verdict
from analysis.verdict import Verdict, judge
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.record.archive import Run, load_run

CODES: Final = {
    State.PASS: ExitCode.PASS,
    State.FAIL: ExitCode.FAIL,
    State.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


def exit_code_of(verdict: Verdict, aborted: ExitCode | None) -> ExitCode:
    """`aborted` is the swarm's exit code, None for a run that came to its end."""
    return CODES[verdict.state] if aborted is None else aborted


def judge_and_store(path: Path) -> tuple[Run, Verdict]:
    """Judge an archive and write its `verdict.json`; HarnessError on damage or a full disk."""
    run = load_run(path)
    verdict = judge(run)
    write_verdict(path, verdict)
    return run, verdict


def print_run(terminal: Terminal, run: Run, verdict: Verdict, *, as_json: bool) -> None:
    """Verdict and tables, for people or as one JSON document."""
    if as_json:
        terminal.json(to_json(run, verdict))
        return
    page: RenderableType = show(run, verdict)
    terminal.out.print(page)
    terminal.out.print(f"archive: {escape(str(run.path))}", soft_wrap=True)
