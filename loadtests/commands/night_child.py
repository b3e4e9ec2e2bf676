"""Child processes of a night: `headroom ARGUMENTS` to its end, or until the night has to end.

A child has a session of its own and ends with this process (PR_SET_PDEATHSIG): a killed night
leaves no load behind. What this process is asked, by a signal or by the stop file of its results
folder, is handed on once, as the SIGTERM that a run ends by in order; so is the edge of the
windows in which load may be sent. A child's JSON is read; of its progress the last line is kept.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from analysis.text import clean
from loadtests.clock import NS_PER_S, Clock, SystemClock
from loadtests.nightly.windows import Edge
from loadtests.parentage import follow_parent
from loadtests.record.stop_file import KillSwitch

LONGEST_WORDS: Final = 400
_POLL_S: Final = 0.2
_GRACE_S: Final = 90.0  # after SIGTERM: drain, FINAL snapshots, archive
_BEFORE_EDGE_S: Final = 15.0  # an agent that cannot be reached ends by its lease, after 10 s
# As the console script starts: the script itself may be on nobody's path.
_HEADROOM: Final = "from loadtests.cli import console; console()"


class _Cause(Enum):
    """Why a child was told to end."""

    STOPPED = "stopped"
    EDGE = "edge"
    LATE = "late"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A child that has ended; `code` None: it hung and was killed."""

    code: int | None
    is_late: bool  # it was stopped, because it took too long
    edge: str = ""  # it was stopped, because load was not allowed any longer
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
        self.note(signal.Signals(number).name)

    def note(self, reason: str) -> None:
        """The first reason stays."""
        self.reason = self.reason or reason

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


class Children:
    """Runs them one after the other, for as long as nobody asks this process to end."""

    def __init__(self, results: Path, signals: Signals, clock: Clock | None = None) -> None:
        self._signals = signals
        self._switch = KillSwitch(results)
        self._clock = SystemClock() if clock is None else clock

    def stop_reason(self) -> str:
        """The signal or the stop file that asked for the end, "" without one."""
        asked = self._switch.asked()
        if asked is not None:
            self._signals.note(f"the stop file ({asked or 'no reason given'})")
        return self._signals.reason

    def call(self, arguments: Sequence[str], limit_s: float, edge: Edge | None = None) -> Done:
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
            limit_ns = started_ns + round(limit_s * NS_PER_S)
            code, cause = self._wait(child, limit_ns, edge)
            took_ns = time.monotonic_ns() - started_ns
            out.seek(0)
            return Done(
                code=code,
                is_late=cause is _Cause.LATE,
                edge=edge.why if edge is not None and cause is _Cause.EDGE else "",
                document=_json(out.read()),
                words=_end(err),
                took_ns=took_ns,
            )

    def _wait(
        self, child: subprocess.Popen[bytes], deadline_ns: int, edge: Edge | None
    ) -> tuple[int | None, _Cause | None]:
        """Exit code (None: it had to be killed), and why it was told to end."""
        told: _Cause | None = None
        while True:
            try:
                return child.wait(_POLL_S), told
            except subprocess.TimeoutExpired:
                now_ns = time.monotonic_ns()
            is_over = now_ns > deadline_ns
            if told is None:
                told = self._cause(edge, is_over=is_over)
                if told is not None:
                    child.terminate()
                    deadline_ns = now_ns + round(_GRACE_S * NS_PER_S)
            elif is_over:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return None, told

    def _cause(self, edge: Edge | None, *, is_over: bool) -> _Cause | None:
        """Why a child has to end now."""
        if self.stop_reason():
            return _Cause.STOPPED
        if edge is not None:
            last_ns = round((edge.at.timestamp() - _BEFORE_EDGE_S) * NS_PER_S)
            if self._clock.unix_ns() >= last_ns:
                return _Cause.EDGE
        return _Cause.LATE if is_over else None


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
    return clean(" ".join(told), LONGEST_WORDS)
