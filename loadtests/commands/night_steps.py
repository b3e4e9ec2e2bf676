"""The steps of a night as child processes: `headroom run`, `compare` and `trend`.

A child has a session of its own and ends with this process (PR_SET_PDEATHSIG): a killed night
leaves no load behind. What this process is asked is handed on once, as the SIGTERM that a run
ends by in order. Its JSON is read; of its progress the last line is kept.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from analysis.findings import GENERATOR_LAWS, Effect
from analysis.text import clean
from loadtests.clock import NS_PER_S
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.nightly.plan import Step
from loadtests.nightly.records import Attempt, NightState, StepRecord
from loadtests.nightly.spec import StepKind
from loadtests.parentage import follow_parent

_POLL_S: Final = 0.2
_GRACE_S: Final = 90.0  # after SIGINT: drain, FINAL snapshots, archive
_OVER_S: Final = 600.0  # a run that takes so much longer than its load hangs
_ANALYSIS_S: Final = 1800.0
_LONGEST_WORDS: Final = 400
_STATES: Final = {
    ExitCode.PASS: NightState.PASS,
    ExitCode.FAIL: NightState.FAIL,
    ExitCode.USAGE: NightState.USAGE,
    ExitCode.INCONCLUSIVE: NightState.INCONCLUSIVE,
    ExitCode.ABORTED: NightState.ABORTED,
    ExitCode.HARNESS: NightState.HARNESS,
}
_OF_HOST: Final = frozenset(law.value for law in GENERATOR_LAWS)


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A child that has ended; `code` None: it hung and was killed."""

    code: int | None
    is_late: bool  # it was stopped, because it took too long
    document: Any  # its JSON, None where there is none
    words: str  # the end of what it said
    took_ns: int

    @property
    def end(self) -> str:
        """How it ended, where it had nothing to say."""
        if self.code is not None and self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


class Signals:
    """What this process was asked: the first SIGINT, SIGTERM or SIGHUP ends the night."""

    def __init__(self) -> None:
        self.reason = ""

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Note it; whoever waits for a child looks."""
        self.reason = self.reason or signal.Signals(number).name

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch them for as long as the night lasts; a SIGHUP that is ignored (nohup) stays so."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = [signal.signal(number, self.on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


class Steps:
    """Carries steps out: the night's `Runner`."""

    def __init__(self, results: Path, terminal: Terminal, signals: Signals) -> None:
        self._results = results
        self._terminal = terminal
        self._signals = signals
        self._scenarios: dict[str, str] = {}  # of the runs of this night

    def stop_reason(self) -> str:
        """The signal that asked for the end, "" without one."""
        return self._signals.reason

    def run(self, step: Step, before: Sequence[StepRecord]) -> Attempt:
        """One step to its end."""
        self._terminal.say(f"step {step.name}: {step.kind.value}")
        match step.kind:
            case StepKind.RUN:
                return self._run(step)
            case StepKind.COMPARE:
                return self._compare([run for one in before for run in _judged_runs(one)])
            case StepKind.TREND:
                return self._trends([run for one in before for run in _judged_runs(one)])

    def _run(self, step: Step) -> Attempt:
        words = ["run", str(step.scenario), *step.arguments, "--results", str(self._results)]
        done = self.call([*words, "--json"], step.length_ns / NS_PER_S + _OVER_S)
        attempt = attempt_of(done)
        if attempt.run_id is not None:
            self._scenarios[attempt.run_id] = done.document["scenario"]
        return attempt

    def _compare(self, runs: Sequence[str]) -> Attempt:
        """FAIL when one regressed; what has no baseline or no answer is only named."""
        started_ns, said, has_regressed = time.monotonic_ns(), [], False
        for run in runs:
            results = ["--results", str(self._results)]
            done = self.call(["compare", "baseline", run, *results, "--json"], _ANALYSIS_S)
            has_regressed |= done.code == ExitCode.FAIL
            said.append(f"{run}: {_decision(done)}")
        return _of_analysis(NightState.FAIL if has_regressed else NightState.PASS, said, started_ns)

    def _trends(self, runs: Sequence[str]) -> Attempt:
        """What changed in the history of each scenario; a change alone fails no night."""
        started_ns, said = time.monotonic_ns(), []
        for scenario in dict.fromkeys(self._scenarios[run] for run in runs):
            results = ["--results", str(self._results)]
            done = self.call(["trend", scenario, *results, "--json"], _ANALYSIS_S)
            said.append(f"{scenario}: {_changes(done)}")
        return _of_analysis(NightState.PASS, said, started_ns)

    def call(self, arguments: Sequence[str], limit_s: float) -> Done:
        """Run `headroom ARGUMENTS` to its end; killed when it takes longer than `limit_s`."""
        command = [sys.executable, "-c", _HEADROOM, *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            started_ns = time.monotonic_ns()
            child = subprocess.Popen(  # noqa: S603 - this interpreter and our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # One prctl, no thread holds a lock.
                preexec_fn=partial(follow_parent, signal.SIGHUP),  # noqa: PLW1509 - see above
            )
            code, is_late = self._wait(child, started_ns + round(limit_s * NS_PER_S))
            took_ns = time.monotonic_ns() - started_ns
            out.seek(0)
            return Done(
                code=code,
                is_late=is_late,
                document=_json(out.read()),
                words=_end(err),
                took_ns=took_ns,
            )

    def _wait(self, child: subprocess.Popen[bytes], deadline_ns: int) -> tuple[int | None, bool]:
        """Exit code (None: it had to be killed), and whether it took too long."""
        is_asked = is_late = False
        while True:
            try:
                return child.wait(_POLL_S), is_late
            except subprocess.TimeoutExpired:
                now_ns = time.monotonic_ns()
            is_over = now_ns > deadline_ns
            if not is_asked and (is_over or self._signals.reason):
                child.terminate()
                is_asked, is_late = True, is_over
                deadline_ns = now_ns + round(_GRACE_S * NS_PER_S)
            elif is_asked and is_over:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return None, is_late


# Whoever stops a night (systemd, Ctrl-C) may signal all its processes, before they can say a word.
_ASKED_TO_END: Final = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
# As the console script starts: the script itself may be on nobody's path.
_HEADROOM: Final = "from loadtests.cli import console; console()"


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return None


def _end(file: Any) -> str:
    """The last error that a child told, with its mistakes, else the last line it said."""
    file.seek(0)
    lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    begun = [number for number, line in enumerate(said) if line.startswith("error:")]
    told = said[begun[-1] :] if begun else said[-1:]
    return clean(" ".join(told), _LONGEST_WORDS)


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
    return Attempt(
        state=state,
        run_id=verdict.get("run_id"),
        is_of_host=state is NightState.INCONCLUSIVE and is_of_host(verdict),
        words=clean(words, _LONGEST_WORDS) if state is not NightState.PASS else "",
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
        words=clean("; ".join(said) or "no run to look at", _LONGEST_WORDS),
        took_ns=time.monotonic_ns() - started_ns,
    )
