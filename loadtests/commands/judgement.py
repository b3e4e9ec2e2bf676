"""From an archive to a printed verdict and an exit code.

The exit code is a function of the archive alone, so `run`, `show`, `demo` and the
locustfile give the same one: of a complete run its verdict's, of any other its end's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import RenderableType

from analysis.judging import State
from analysis.show import show, to_json, write_verdict
from analysis.trend.digests import store_digest
from analysis.verdict import Verdict, judge
from loadtests.commands.audit import audit_writes
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.plan.model import Plan
from loadtests.record.archive import Run, load_run
from loadtests.record.manifest import Outcome

_OF_VERDICT: Final = {
    State.PASS: ExitCode.PASS,
    State.FAIL: ExitCode.FAIL,
    State.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}
_OF_OUTCOME: Final = {
    Outcome.ABORTED: ExitCode.ABORTED,
    Outcome.CRASHED: ExitCode.HARNESS,
    Outcome.RUNNING: ExitCode.HARNESS,  # no end is recorded: it died without a word
}


def exit_code_of(outcome: Outcome, state: State) -> ExitCode:
    """How a run ended decides; of one that came to its end, the verdict."""
    return _OF_VERDICT[state] if outcome is Outcome.COMPLETE else _OF_OUTCOME[outcome]


def judge_and_store(path: Path) -> tuple[Run, Verdict]:
    """Judge an archive and write its `verdict.json`; HarnessError on damage or a full disk."""
    run = load_run(path)
    verdict = judge(run)
    write_verdict(path, verdict)
    if run.is_complete:
        store_digest(run, verdict)
    return run, verdict


def conclude(path: Path, plan: Plan, terminal: Terminal) -> tuple[Run, Verdict]:
    """What follows a run: its logged writes are read back, then it is judged and that stored."""
    audit_writes(path, plan, terminal)
    return judge_and_store(path)


def print_run(terminal: Terminal, run: Run, verdict: Verdict, *, as_json: bool) -> None:
    """Verdict and tables, for people or as one JSON document."""
    if as_json:
        terminal.json(to_json(run, verdict))
        return
    page: RenderableType = show(run, verdict)
    terminal.out.print(page)
    terminal.out.print(f"archive: {run.path!s}", soft_wrap=True)
