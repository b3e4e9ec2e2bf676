"""The scraper of a run, as the master sees it: rows to archive, and how it ended.

What the target says of itself is worth no run: whatever becomes of the scraper, load goes
on, and its end is an event. Reads in a greenlet; nothing is parsed here but our own lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Final

import gevent
import msgspec

from loadtests.plan.model import Plan
from loadtests.record.server import ServerRow, decode_rows
from loadtests.scrape.order import MODULE, ScrapeOrder, encode_order
from loadtests.swarm.children import Child, own_pid

_MOST_WAITING: Final = 100_000  # rows that the master may be behind
_LONGEST_LINE: Final = 16 * 1024 * 1024


class ScraperProcess:
    """A process that scrapes from construction on, until `end`."""

    def __init__(self, plan: Plan, authorised_hosts: tuple[str, ...], to_unix_ns: int) -> None:
        assert plan.scraping is not None, "a plan that asks for scraping"
        order = ScrapeOrder(scraping=plan.scraping, tls=plan.tls, authorised_hosts=authorised_hosts)
        descriptor = os.memfd_create("scrape-order")
        try:
            os.write(descriptor, encode_order(order))
            os.lseek(descriptor, 0, os.SEEK_SET)
            words = ["--plan-fd", str(descriptor), "--to-unix-ns", str(to_unix_ns)]
            self._child = Child(
                MODULE,
                [*words, "--parent", own_pid()],
                pass_fds=(descriptor,),
                has_output=True,
            )
        finally:
            os.close(descriptor)
        self._rows: deque[ServerRow] = deque()
        self._fault: str | None = None
        self._has_ended = False
        self._reader = gevent.spawn(self._read)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def take(self) -> Sequence[ServerRow]:
        """Rows that came since the last call."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def newly_ended(self) -> str | None:
        """How it ended, told once; None while it runs."""
        if self._has_ended or (self._child.is_alive and self._fault is None):
            return None
        self._has_ended = True
        self._child.kill()
        return self._fault or self._child.how_it_ended()

    def end(self) -> None:
        """Kill and reap it; what it had not written is lost."""
        self._reader.kill(block=False)
        self._child.end()

    def _read(self) -> None:
        buffer = b""
        for piece in self._child.output():
            *lines, buffer = (buffer + piece).split(b"\n")
            try:
                for line in lines:
                    self._rows.extend(decode_rows(line))
            except msgspec.MsgspecError as error:
                self._fault = f"wrote what is no scrape: {error}"
                return
            if len(self._rows) > _MOST_WAITING or len(buffer) > _LONGEST_LINE:
                self._fault = "wrote more than the master can archive"
                return
