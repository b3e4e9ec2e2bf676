"""The trials of a capacity search: decide, then act.

`analysis.capacity.search.decide` says what the next trial is; here it is run as an ordinary
run, with its archive and its verdict, and the outcome handed back. The search's file is
written after each trial: Ctrl-C, or a crash, loses the trial that was running, no other.
"""

from __future__ import annotations

import argparse
import threading
import time

from analysis.capacity.search.decide import Ending, Step, decide
from analysis.capacity.search.outcome import trial_of
from analysis.capacity.search.pages import headline, to_page
from analysis.capacity.search.result import SearchResult, build_result, write_result
from analysis.capacity.search.trials import Purpose, Trial, TrialState
from analysis.tables import Table
from analysis.text import latency, rate, ratio
from loadtests.commands.capacity_space import Space
from loadtests.commands.interrupts import ignoring_after_start
from loadtests.commands.judgement import judge_and_store
from loadtests.commands.run import run_swarm
from loadtests.commands.size import hosts_at
from loadtests.commands.terminal import Terminal
from loadtests.errors import HarnessError
from loadtests.record.files import replace_file


def hosts_of(space: Space, result: SearchResult) -> Table | str:
    """Hosts that make the rate at which the target no longer held; or why none are named.

    Where every rate held, those for the highest that did; where none counted, for the highest
    that was to be tried.
    """
    bound = result.objectives.upper or result.objectives.lower
    per_s = result.settings.max_per_s if bound is None else bound.rate_per_s
    return hosts_at(space.whole_at(per_s, space.base.seed), per_s)


class SearchRunner:
    """One search, from the trials it has already to its end."""

    def __init__(
        self,
        space: Space,
        begun: SearchResult,
        arguments: argparse.Namespace,
        terminal: Terminal,
    ) -> None:
        self._space, self._begun = space, begun
        self._arguments, self._terminal = arguments, terminal
        self._trials = list(begun.trials)
        self._interrupted = threading.Event()  # while a run was being judged

    def run(self) -> SearchResult:
        """Decide and act until the end."""
        self._store(None)
        while isinstance(step := decide(self._begun.settings, self._trials), Step):
            try:
                outcome = self._try(step)
            except KeyboardInterrupt:
                return self._store(Ending.INTERRUPTED)
            if not isinstance(outcome, Trial):
                return self._store(*outcome)
            self._trials.append(outcome)
            self._tell(outcome, self._store(None))
            if self._interrupted.is_set():
                return self._store(Ending.INTERRUPTED)
        return self._store(step)

    def _store(self, ending: Ending | None, detail: str = "") -> SearchResult:
        """Write what is known so far, and the page once it has ended."""
        begun = self._begun
        result = build_result(
            begun.search_id,
            begun.subject,
            begun.settings,
            self._trials,
            ending=ending,
            detail=detail,
        )
        path = write_result(self._arguments.results, result)
        if ending is not None:
            page = to_page(result, hosts_of(self._space, result))
            replace_file(path.with_suffix(".md"), page.encode())
        return result

    def _try(self, step: Step) -> Trial | tuple[Ending, str]:
        """One trial; or why there can be no further one. Its archive is kept in any case."""
        from loadtests.swarm.run_state import EndCause  # noqa: PLC0415 - loads Locust

        number = len(self._trials) + 1
        self._announce(step, number)
        time.sleep(step.pause_s if self._trials else 0.0)
        plan = self._space.plan_at(step.rate_per_s, number)
        with ignoring_after_start(self._interrupted.set) as begun:
            ended = run_swarm(plan, self._arguments, self._terminal, begun)
            run, verdict = judge_and_store(ended.path)
        match ended.cause:
            case EndCause.USER:
                return Ending.INTERRUPTED, f"in trial {number}, run {verdict.run_id}"
            case EndCause.TARGET:
                return Ending.TARGET_LOST, ended.reason
            case EndCause.HARNESS | EndCause.SCENARIO:
                where = f"trial {number}"
                raise HarnessError(where=where, seen=ended.reason, expected="a whole run")
        return trial_of(run, verdict, step, number, self._begun.settings.goals)

    def _announce(self, step: Step, number: int) -> None:
        settings = self._begun.settings
        what = "is the target well again at" if step.purpose is Purpose.RECOVERY else "at"
        self._terminal.say(
            f"trial {number}, of {settings.max_trials} at most: {what} {rate(step.rate_per_s)} "
            f"requests/s for {settings.trial_s:g} s"
        )

    def _tell(self, trial: Trial, result: SearchResult) -> None:
        """What a trial was, and the bounds with it."""
        seen = f"p99 {latency(trial.p99_ns)}, errors {ratio(trial.error_ratio)}"
        why = f" ({trial.reason})" if trial.state is TrialState.VOID else ""
        self._terminal.say(f"  {trial.state.value}{why}: {seen}; run {trial.run_id}")
        self._terminal.say(f"  so far {headline(result)}")
