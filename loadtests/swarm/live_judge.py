"""The provisional verdict, as the master has it: a process that is fed and says what it finds.

What judges belongs to another room, so the front door says which module does it. It runs at
the lowest priority, and whatever becomes of it the run goes on: it is for the page alone.
Feeding never holds the master up: what does not fit the pipe waits, and when too much waits
there is no provisional verdict any more, which is said.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import gevent
import msgspec
from gevent.event import Event as Signal
from gevent.os import nb_write

from loadtests.record.bins import NO_BINS
from loadtests.record.manifest import Manifest
from loadtests.record.server import ServerRow
from loadtests.record.window import Window
from loadtests.record.writes import NO_WRITES
from loadtests.swarm.children import Child, own_pid
from loadtests.swarm.feed import Fed, encode_fed
from loadtests.swarm.live import Judged

_MOST_WAITING_BYTES: Final = 64 << 20
_LONGEST_VERDICT: Final = 256 << 10
_LONGEST_NOTE: Final = 200
NOTHING: Final = b"null"


class LiveJudge:
    """A child that judges, from construction until `end`."""

    def __init__(self, module: str, plan: bytes, manifest: Manifest) -> None:
        feed, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            words = ["--feed-fd", str(feed), "--parent", own_pid()]
            self._child = Child(module, words, pass_fds=(feed,), has_output=True)
        finally:
            os.close(feed)
        # At once, so that even its start does not disturb what is measured.
        with suppress(OSError):  # not everybody is allowed to
            os.sched_setscheduler(self._child.pid, os.SCHED_IDLE, os.sched_param(0))
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._woken = Signal()
        self._verdict, self._came_s, self._fault = NOTHING, 0.0, ""
        self._greenlets = [gevent.spawn(self._write), gevent.spawn(self._read)]
        self._feed(plan)
        self._feed(manifest)

    def update(self, manifest: Manifest) -> None:
        """Say what is known of agents and losses."""
        self._feed(manifest)

    def see(self, window: Window) -> None:
        """Feed a merged window; bins and writes are judged at the end alone."""
        self._feed(dataclasses.replace(window, bins=NO_BINS, writes=NO_WRITES))

    def scraped(self, rows: Sequence[ServerRow]) -> None:
        """Feed what the target said of itself."""
        if rows:
            self._feed(tuple(rows))

    def newest(self) -> Judged:
        """The newest verdict and how old it is."""
        if self._fault or not self._child.is_alive:
            how = self._fault or self._child.how_it_ended()
            return Judged(verdict=NOTHING, note=f"no provisional verdict: {how[:_LONGEST_NOTE]}")
        if self._verdict == NOTHING:
            return Judged(verdict=NOTHING, note="nothing has been judged yet")
        age_s = time.monotonic() - self._came_s
        return Judged(verdict=self._verdict, note=f"judged {age_s:.0f} s ago")

    def end(self) -> None:
        """Kill and reap it."""
        gevent.killall(self._greenlets, block=True, timeout=1.0)
        with suppress(OSError):
            os.close(self._pipe)
        self._child.end()

    def _feed(self, fed: Fed) -> None:
        if self._fault:
            return
        frame = encode_fed(fed)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._fault = "this host has no time to judge beside the run"
            self._waiting.clear()
            return
        self._waiting.append(frame)
        self._woken.set()

    def _write(self) -> None:
        with suppress(OSError):  # it has ended: `newest` says so
            while True:
                self._woken.wait()
                self._woken.clear()
                while self._waiting:
                    frame = self._waiting.popleft()
                    left = memoryview(frame)
                    while left:
                        left = left[nb_write(self._pipe, left) :]
                    self._waiting_bytes -= len(frame)

    def _read(self) -> None:
        buffer = b""
        for piece in self._child.output():
            *lines, buffer = (buffer + piece).split(b"\n")
            if len(buffer) > _LONGEST_VERDICT:
                self._fault = "the judge said too much"
                return
            for line in lines:
                try:
                    msgspec.json.decode(line)
                except msgspec.DecodeError:
                    self._fault = "the judge said what is no JSON"
                    return
                self._verdict, self._came_s = line, time.monotonic()
