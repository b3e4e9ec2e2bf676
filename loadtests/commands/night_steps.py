"""The steps of a night as child processes: `headroom run`, `compare` and `trend`."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analysis.findings import GENERATOR_LAWS, Effect
from analysis.text import clean
from loadtests.clock import NS_PER_S
from loadtests.commands.night_child import LONGEST_WORDS, Children, Done
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.nightly.plan import Step
from loadtests.nightly.records import Attempt, NightState, StepRecord
from loadtests.nightly.spec import StepKind
from loadtests.nightly.windows import Edge

_OVER_S: Final = 600.0  # a run that takes so much longer than its load hangs
_ANALYSIS_S: Final = 1800.0
_STATES: Final = {
    ExitCode.PASS: NightState.PASS,
    ExitCode.FAIL: NightState.FAIL,
    ExitCode.USAGE: NightState.USAGE,
    ExitCode.INCONCLUSIVE: NightState.INCONCLUSIVE,
    ExitCode.ABORTED: NightState.ABORTED,
    ExitCode.HARNESS: NightState.HARNESS,
}
_OF_HOST: Final = frozenset(law.value for law in GENERATOR_LAWS)


class Steps:
    """Carries steps out: the night's `Runner`."""

    def __init__(self, results: Path, terminal: Terminal, children: Children) -> None:
        self._results = results
        self._terminal = terminal
        self._children = children
        self._scenarios: dict[str, str] = {}  # of the runs of this night

    def stop_reason(self) -> str:
        """What asked for the end, "" without it."""
        return self._children.stop_reason()

    def run(self, step: Step, before: Sequence[StepRecord], edge: Edge | None) -> Attempt:
        """One step to its end, or until shortly before the edge."""
        self._terminal.say(f"step {step.name}: {step.kind.value}")
        match step.kind:
            case StepKind.RUN:
                return self._run(step, edge)
            case StepKind.COMPARE:
                return self._compare([run for one in before for run in _judged_runs(one)])
            case StepKind.TREND:
                return self._trends([run for one in before for run in _judged_runs(one)])

    def _run(self, step: Step, edge: Edge | None) -> Attempt:
        words = ["run", str(step.scenario), *step.arguments, "--results", str(self._results)]
        done = self._children.call([*words, "--json"], step.most_ns / NS_PER_S + _OVER_S, edge)
        attempt = attempt_of(done)
        if attempt.run_id is not None:
            self._scenarios[attempt.run_id] = done.document["scenario"]
        return attempt

    def _compare(self, runs: Sequence[str]) -> Attempt:
        """FAIL when one regressed; what has no baseline or no answer is only named."""
        started_ns, said, has_regressed = time.monotonic_ns(), [], False
        for run in runs:
            results = ["--results", str(self._results)]
            done = self._children.call(
                ["compare", "baseline", run, *results, "--json"], _ANALYSIS_S
            )
            has_regressed |= done.code == ExitCode.FAIL
            said.append(f"{run}: {_decision(done)}")
        return _of_analysis(NightState.FAIL if has_regressed else NightState.PASS, said, started_ns)

    def _trends(self, runs: Sequence[str]) -> Attempt:
        """What changed in the history of each scenario; a change alone fails no night."""
        started_ns, said = time.monotonic_ns(), []
        for scenario in dict.fromkeys(self._scenarios[run] for run in runs):
            results = ["--results", str(self._results)]
            done = self._children.call(["trend", scenario, *results, "--json"], _ANALYSIS_S)
            said.append(f"{scenario}: {_changes(done)}")
        return _of_analysis(NightState.PASS, said, started_ns)


# Whoever stops a night (systemd, Ctrl-C) may signal all its processes, before they can say a word.
_ASKED_TO_END: Final = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def attempt_of(done: Done) -> Attempt:
    """What a run's exit code and JSON say."""
    verdict: Mapping[str, Any] = done.document if isinstance(done.document, dict) else {}
    state = NightState.HARNESS
    if done.code in _ASKED_TO_END:
        state = NightState.ABORTED
    elif done.code in set(ExitCode) and not done.is_late:
        state = _STATES.get(ExitCode(done.code), NightState.HARNESS)
    reasons = verdict.get("reasons") or ([done.words] if done.words else [])
    words = "; ".join(map(str, reasons[:2])) or done.end
    if done.is_late:
        words = f"hung, and was {'killed' if done.code is None else 'stopped'}: {words}"
    if done.edge:
        words = f"stopped in time: {done.edge}; {words}"
    return Attempt(
        state=state,
        run_id=verdict.get("run_id"),
        is_of_host=state is NightState.INCONCLUSIVE and is_of_host(verdict),
        words=clean(words, LONGEST_WORDS) if state is not NightState.PASS else "",
        took_ns=done.took_ns,
    )


def is_of_host(verdict: Mapping[str, Any]) -> bool:
    """Whether all that speaks against a run is the generator's or its host's doing."""
    found = [
        finding.get("law")
        for finding in verdict.get("findings", ())
        if finding.get("effect") == Effect.INVALID.value
    ]
    return bool(found) and all(law in _OF_HOST for law in found)


def _judged_runs(step: StepRecord) -> tuple[str, ...]:
    """Archives of a step that measured their target."""
    return tuple(
        one.run_id
        for one in step.attempts
        if one.run_id is not None and one.state in {NightState.PASS, NightState.FAIL}
    )


def _decision(done: Done) -> str:
    if isinstance(done.document, dict) and "decision" in done.document:
        return str(done.document["decision"])
    return done.words or done.end


def _changes(done: Done) -> str:
    if not isinstance(done.document, dict):
        return done.words or done.end
    series = done.document.get("series", ())
    changed = [one for one in series if one.get("changes")]
    return f"{len(changed)} of {len(series)} series changed in {done.document.get('runs')} runs"


def _of_analysis(state: NightState, said: Sequence[str], started_ns: int) -> Attempt:
    return Attempt(
        state=state,
        run_id=None,
        is_of_host=False,
        words=clean("; ".join(said) or "no run to look at", LONGEST_WORDS),
        took_ns=time.monotonic_ns() - started_ns,
    )
