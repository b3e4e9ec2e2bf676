"""A process beside a run that judges it as it goes: `python -m loadtests.commands.provisional`.

Started by the master of a run whose web UI is open (`swarm/live_judge.py`), fed by it, and
listened to by nobody else: one line of JSON for each judgement. It is given a core when no
one else wants it (SCHED_IDLE), and judges for at most a twentieth of the time: what is
measured must not be disturbed by who watches it. A composition root, because it joins the swarm's
feed to the verdict's room.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from analysis.judging import ObjectiveResult
from analysis.provisional import SoFar, judge_so_far, standing_of
from analysis.text import clean, reading_text
from loadtests.errors import HarnessError
from loadtests.parentage import lives_with
from loadtests.record.archive import Run, RunSoFar
from loadtests.record.manifest import Manifest
from loadtests.record.window import Window
from loadtests.swarm.feed import Fed, FedReader

MODULE: Final = "loadtests.commands.provisional"
EVERY_S: Final = 3.0
_REST: Final = 19  # times as long as it judged
_READ_BYTES: Final = 1 << 20
MOST_ROWS: Final = 3_000_000  # about a gigabyte
_SHOWN: Final = 60
_LONGEST: Final = 200
_PATH: Final = Path("the run under way")


class Watch:
    """One run, as far as it was fed."""

    def __init__(self) -> None:
        self._plan: bytes | None = None
        self._manifest: Manifest | None = None
        self._run: RunSoFar | None = None
        self.is_new = False  # something has come since the last judgement

    def take(self, fed: Fed) -> None:
        """Keep it; HarnessError when it becomes too much."""
        match fed:
            case bytes():
                self._plan = fed
            case Manifest():
                self._manifest = fed
                if self._run is None or not self._run.rows:
                    self._run = RunSoFar(fed)  # T0 may move until there is load
            case Window():
                self._known().add(fed)
                self.is_new = True
            case _:
                self._known().add_server(fed)
        if self._run is not None and self._run.rows > MOST_ROWS:
            raise HarnessError(
                where="provisional verdict",
                seen=f"{self._run.rows} rows",
                expected=f"at most {MOST_ROWS}; the verdict comes at the end of the run",
            )

    def run(self) -> Run | None:
        """As it stands; None before there is a window."""
        if self._plan is None or self._manifest is None or not self.is_new:
            return None
        self.is_new = False
        return self._known().run(_PATH, self._manifest, self._plan)

    def _known(self) -> RunSoFar:
        assert self._run is not None, "the manifest comes first"
        return self._run


def to_json(so_far: SoFar) -> bytes:
    """One line, bounded."""
    shown = [_objective(result) for result in so_far.objectives[:_SHOWN]]
    invalid = [str(finding) for finding in so_far.findings if finding.is_invalid]
    return msgspec.json.encode(
        {
            "through_s": so_far.through_s,
            "state": so_far.state.value,
            "objectives": shown,
            "findings": [clean(text, _LONGEST) for text in invalid[:_SHOWN]],
            "later": [clean(text, _LONGEST) for text in so_far.later[:_SHOWN]],
            "left_out": max(0, len(so_far.objectives) - _SHOWN),
        }
    )


def _objective(result: ObjectiveResult) -> dict[str, str | int]:
    return {
        "stage": clean(result.stage),
        "text": clean(result.objective),
        "value": reading_text(result.reading),
        "samples": result.reading.samples,
        "required": result.reading.required,
        "standing": standing_of(result).value,
        "reason": clean(result.reason, _LONGEST),
    }


def pieces(descriptor: int, until_s: float) -> Iterator[bytes]:
    """What comes until then; b"" when nothing will come any more."""
    while (left_s := until_s - time.monotonic()) > 0:
        ready, _, _ = select.select([descriptor], [], [], left_s)
        if ready:
            piece = os.read(descriptor, _READ_BYTES)
            yield piece
            if not piece:
                return


def watch(descriptor: int) -> None:
    """Judge until the master closes its end."""
    reader, watched = FedReader(), Watch()
    rest_s = EVERY_S
    while True:
        for piece in pieces(descriptor, time.monotonic() + rest_s):
            if not piece:
                return
            for fed in reader.take(piece):
                watched.take(fed)
        began_s = time.monotonic()
        run = watched.run()
        if run is not None:
            sys.stdout.buffer.write(to_json(judge_so_far(run)) + b"\n")
            sys.stdout.buffer.flush()
        rest_s = max(EVERY_S, _REST * (time.monotonic() - began_s))


def _prepare(parent_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the master's to act on
    if not lives_with(parent_pid):
        sys.exit(0)


def main() -> int:
    """Judge; one line on standard error says why it cannot."""
    parser = argparse.ArgumentParser(prog=MODULE)
    parser.add_argument("--feed-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    _prepare(options.parent)
    try:
        watch(options.feed_fd)
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
