"""The recorder: single events in, windows out, without ever stalling the loop.

The hot path appends plain integers to `array('q')` buffers through bound methods; about
a thousand events at a time are binned with NumPy into dense rows, one per (slot, kind)
that the second has touched. A window is closed by setting its rows aside; they are read
out a few at a time (`Closing.step`), over half of the next second at most.

A *code* is `size_bytes << SLOT_BITS | slot`: what was sent and where it counts, in one
number. The law: every event handed in is in exactly one window, counts and errors alike.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.engine.bins import BinBook
from loadtests.engine.manner import EXACT
from loadtests.engine.write_log import WriteLog
from loadtests.record.bins import NO_BINS, Bins
from loadtests.record.error_kinds import OTHER
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.window import Count, EngineHealth, Kind, Window, pack_window
from loadtests.record.writes import NO_WRITES, Writes

SLOT_BITS: Final = 16  # record.window.MAX_SLOTS is 20,261
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
MOST_KINDS: Final = 64  # error kinds per slot, `other` included
_LONGEST_MESSAGE: Final = 200
_STEPS: Final = 50  # in which a closed second is read out, half of the next one
_BLOCK_ROWS: Final = 128  # 24 MB of address space, of which only what is hit becomes memory
_KINDS: Final = len(Kind)
_COUNTS: Final = len(Count)
_DONE: Final = object()

Integers = NDArray[np.int64]


class _Rows:
    """Dense counters of one second: a row of histogram buckets per (slot, kind) hit.

    Rows live in blocks that are never copied or cleared as a whole, so that only memory
    that was counted in is ever touched: a row is 188 kB, what a second hits of it is little.
    """

    __slots__ = ("blocks", "counters", "errors", "messages", "owners", "row_of", "top")

    def __init__(self, slots: int) -> None:
        self.row_of = np.full(slots * _KINDS, -1, dtype=np.int64)
        self.owners: list[int] = []  # slot * kinds + kind of each row
        self.blocks: list[Integers] = []
        self.top = 0  # highest bucket hit: reading a row stops there
        self.counters = np.zeros((slots, _COUNTS), dtype=np.int64)
        self.errors: dict[tuple[int, str], int] = {}
        self.messages: dict[tuple[int, str], str] = {}

    def _assign(self, owners: Integers) -> None:
        for owner in np.unique(owners[self.row_of[owners] < 0]).tolist():
            self.row_of[owner] = len(self.owners)
            self.owners.append(owner)
        while len(self.owners) > len(self.blocks) * _BLOCK_ROWS:
            self.blocks.append(np.zeros(_BLOCK_ROWS * LENGTH, dtype=np.int64))

    def bin(self, owners: Integers, values_ns: Integers) -> None:
        """Count latencies (ns, >= 0), each for its owner (slot * kinds + kind)."""
        self.count(*self.places(owners, values_ns))

    def places(self, owners: Integers, values_ns: Integers) -> tuple[Integers, Integers]:
        """Row and bucket of each latency."""
        rows = self.row_of[owners]
        if rows.min() < 0:
            self._assign(owners)
            rows = self.row_of[owners]
        buckets = buckets_of_ns(values_ns)
        self.top = max(self.top, int(buckets.max()))
        return rows, buckets

    def count(self, rows: Integers, buckets: Integers) -> None:
        """Count one in each place."""
        if len(self.blocks) == 1:
            np.add.at(self.blocks[0], rows * LENGTH + buckets, 1)
            return
        for number in np.unique(rows // _BLOCK_ROWS).tolist():
            mine = rows // _BLOCK_ROWS == number
            inside = rows[mine] - number * _BLOCK_ROWS
            np.add.at(self.blocks[number], inside * LENGTH + buckets[mine], 1)

    def take_row(self, row: int) -> tuple[Integers, Integers]:
        """Buckets and counts of a row, which is empty afterwards."""
        begin = row % _BLOCK_ROWS * LENGTH
        counts = self.blocks[row // _BLOCK_ROWS][begin : begin + self.top + 1]
        hit = np.flatnonzero(counts)
        taken = counts[hit]
        counts[hit] = 0
        return hit, taken

    def add(self, slots: Integers, count: Integers | Count, amounts: Integers | int = 1) -> None:
        """Add to one counter of each slot; `count` may differ between them."""
        np.add.at(self.counters.reshape(-1), slots * _COUNTS + count, amounts)

    def clear(self) -> None:
        """Forget the rest of a second whose rows have all been taken."""
        self.row_of[np.asarray(self.owners, dtype=np.int64)] = -1
        self.owners.clear()
        self.top = 0
        self.counters[:] = 0
        self.errors, self.messages = {}, {}


class Closing:
    """A second set aside; `step` until it gives the window."""

    __slots__ = (
        "_at_a_time",
        "_bins",
        "_health",
        "_keys",
        "_order",
        "_rows",
        "_start_s",
        "_values",
        "_writes",
    )

    def __init__(
        self, rows: _Rows, start_s: int, health: EngineHealth, bins: Bins, writes: Writes
    ) -> None:
        self._rows, self._start_s, self._health = rows, start_s, health
        self._bins, self._writes = bins, writes
        # Keys must rise: rows are read in the order of their owners.
        order = sorted(range(len(rows.owners)), key=rows.owners.__getitem__)
        self._order: Iterator[int] = iter(order)
        self._at_a_time = 2 + len(order) // _STEPS  # a row takes 10 to 20 us
        self._keys: list[Integers] = [np.empty(0, dtype=np.int64)]
        self._values: list[Integers] = [np.empty(0, dtype=np.int64)]

    def step(self) -> Window | None:
        """Read out some rows; the window once all are read."""
        rows = self._rows
        for _ in range(self._at_a_time):
            row = next(self._order, None)
            if row is None:
                return self._window()
            buckets, counts = rows.take_row(row)
            self._keys.append(buckets + rows.owners[row] * LENGTH)
            self._values.append(counts)
        return None

    def finish(self) -> Window:
        """Read out all that is left, at once."""
        window = self.step()
        while window is None:
            window = self.step()
        return window

    def _window(self) -> Window:
        rows = self._rows
        slots = np.flatnonzero(rows.counters.any(axis=1))
        window = Window(
            start_s=self._start_s,
            slots=slots.astype(np.uint32),
            counters=rows.counters[slots],
            keys=np.concatenate(self._keys).astype(np.uint32),
            counts=np.concatenate(self._values),
            errors=rows.errors,
            messages=rows.messages,
            health=(self._health,),
            hiccups=(),
            bins=self._bins,
            writes=self._writes,
        )
        rows.clear()
        return window


class Recorder:
    """Buffers of the hot path and the rows of the open second.

    `log_sent`, `log_lag` take one value per request sent; `log_ok`, `log_response`,
    `log_service`, `log_received` one per ok request (code, ns, ns, bytes). `log_many_sent` and
    `log_many_ok` are the same for many at once.
    """

    __slots__ = (
        "_bad",
        "_bins",
        "_connects",
        "_extras",
        "_kinds",
        "_lags",
        "_oks",
        "_plans_as_sent",
        "_received",
        "_responses",
        "_rows",
        "_sents",
        "_services",
        "_slots",
        "_spare",
        "_work",
        "batch_events",
        "log_lag",
        "log_ok",
        "log_received",
        "log_response",
        "log_sent",
        "log_service",
        "writes",
    )

    def __init__(
        self,
        slots: int,
        *,
        plans_as_sent: bool = False,
        bins: BinBook | None = None,
        writes: WriteLog | None = None,
    ) -> None:
        self._slots = slots
        self._bins = bins
        self.writes = writes
        self._plans_as_sent = plans_as_sent  # closed load plans what it sends
        self.batch_events = EXACT.batch_events
        self._rows = _Rows(slots)
        self._spare: _Rows | None = None
        self._kinds: dict[int, set[str]] = {}
        # Bound appends and one flat buffer per column: half the cost of a tuple per event.
        self._sents, self._lags = array("q"), array("q")
        self._oks, self._responses = array("q"), array("q")
        self._services, self._received = array("q"), array("q")
        self._bad: list[int] = []  # six numbers an event, see not_ok
        self._connects: list[int] = []  # three numbers an event
        self._extras: list[int] = []  # two numbers an event: owner and latency
        self._work: Iterator[None] = iter(())  # a batch that is being binned
        self.log_sent, self.log_lag = self._sents.append, self._lags.append
        self.log_ok, self.log_response = self._oks.append, self._responses.append
        self.log_service, self.log_received = self._services.append, self._received.append

    def log_many_sent(self, codes: list[int], lags_ns: list[int]) -> None:
        """Log requests that left together; a third of what so many single calls cost."""
        self._sents.fromlist(codes)
        self._lags.fromlist(lags_ns)

    def log_many_ok(
        self,
        codes: list[int],
        responses_ns: list[int],
        services_ns: list[int],
        received_bytes: list[int],
    ) -> None:
        """Log ok requests that ended together."""
        self._oks.fromlist(codes)
        self._responses.fromlist(responses_ns)
        self._services.fromlist(services_ns)
        self._received.fromlist(received_bytes)

    @property
    def is_full(self) -> bool:
        """True when a batch is worth absorbing."""
        return self._holds(self.batch_events)

    @property
    def is_behind(self) -> bool:
        """True when binning cannot wait any longer for a better moment."""
        return self._holds(2 * self.batch_events)

    def _holds(self, events: int) -> bool:
        """Whether so many events of any sort wait to be binned."""
        return (
            len(self._sents) >= events
            or len(self._oks) >= events
            or len(self._bad) >= 6 * events
            or len(self._extras) >= 2 * events
        )

    def absorb(self) -> None:
        """Bin all buffered events into the open second."""
        deque(self._work, maxlen=0)
        deque(self._absorbing(), maxlen=0)

    def absorb_part(self) -> None:
        """Take the next step of binning a batch, if there is one: what is due need not wait."""
        if next(self._work, _DONE) is _DONE and self.is_full:
            self._work = self._absorbing()

    def _absorbing(self) -> Iterator[None]:
        """Bin what is buffered now, in steps.

        NumPy's code and our rows are cold every time: a batch takes 0.5 ms where a loop of
        its own would show 0.15, and a smaller one hardly less (send lag p99, `make bench`).
        """
        if self._bad or self._connects or self._extras:
            self._take_rare()
            yield
        parts = []
        if self._sents:
            parts.append(self._take_sents())
            yield
        if self._oks:
            parts.append(self._take_oks())
            yield
        if parts:
            # One pass over the histograms costs half of two.
            owners, values = [np.concatenate(column) for column in zip(*parts, strict=True)]
            places = self._rows.places(owners, values)
            yield
            self._rows.count(*places)

    def _take_rare(self) -> None:
        """Count what did not go well, connections, and what came inside of streams."""
        if self._bad:
            self._take_bad()
        if self._connects:
            slots, counts, took = _columns(self._connects, 3)
            self._rows.add(slots, counts)
            self._rows.bin(slots * _KINDS + int(Kind.CONNECT), took)
        if self._extras:
            self._rows.bin(*_columns(self._extras, 2))

    def _take_sents(self) -> tuple[Integers, Integers]:
        """Count what was sent; owners and values of its send lags."""
        codes = np.array(self._sents, dtype=np.int64)
        slots = codes & SLOT_MASK
        self._rows.add(slots, Count.SENT)
        if self._plans_as_sent:
            self._rows.add(slots, Count.PLANNED)
        self._rows.add(slots, Count.BYTES_SENT, codes >> SLOT_BITS)
        lags = np.array(self._lags, dtype=np.int64)
        del self._sents[:], self._lags[:]
        return slots * _KINDS + int(Kind.SEND_LAG), lags

    def _take_oks(self) -> tuple[Integers, Integers]:
        """Count what was ok; owners and values of its response and service times."""
        slots = np.array(self._oks, dtype=np.int64) & SLOT_MASK
        self._rows.add(slots, Count.OK)
        self._rows.add(slots, Count.BYTES_RECEIVED, np.array(self._received, dtype=np.int64))
        owners = slots * _KINDS
        both = np.concatenate((owners + int(Kind.RESPONSE), owners + int(Kind.SERVICE)))
        values = np.array(self._responses + self._services, dtype=np.int64)
        if self._bins is not None:
            self._bins.ended_ok(Kind.RESPONSE, slots, values[: slots.size])
            self._bins.ended_ok(Kind.SERVICE, slots, values[slots.size :])
        del self._oks[:], self._responses[:], self._services[:], self._received[:]
        return both, values

    def _take_bad(self) -> None:
        slots, counts, responses, services, received, dues = _columns(self._bad, 6)
        rows = self._rows
        if self._bins is not None:
            self._bins.ended_badly(slots, counts, dues)
        rows.add(slots, counts)
        rows.add(slots, Count.BYTES_RECEIVED, received)
        rows.bin(slots * _KINDS + int(Kind.FAILED_RESPONSE), responses)
        rows.bin(slots * _KINDS + int(Kind.FAILED_SERVICE), services)

    def planned(self, slots: Integers) -> None:
        """Count arrivals whose intended time lies in the open second, or in a closed one."""
        self._rows.add(slots, Count.PLANNED)

    def dropped(self, slot: int) -> None:
        """Count one arrival that was shed."""
        self._rows.counters[slot, Count.DROPPED] += 1

    def not_ok(
        self,
        code: int,
        count: Count,
        *,
        kind: str,
        message: str,
        due_ns: int,
        response_ns: int,
        service_ns: int,
        received_bytes: int,
    ) -> None:
        """Count one request that ended as `count` (client_error or failed)."""
        slot = code & SLOT_MASK
        self._bad.extend((slot, count, response_ns, service_ns, received_bytes, due_ns))
        self._error(code & SLOT_MASK, kind, message)

    def log_stream(self, code: int, kind: Kind, took_ns: int) -> None:
        """Log a latency inside of a stream: set-up, first message or message."""
        self._extras.extend(((code & SLOT_MASK) * _KINDS + kind, took_ns))

    def connected(self, slot: int, took_ns: int, failure: tuple[str, str] | None) -> None:
        """Count one connection attempt; `failure` is (kind, message)."""
        count = Count.CONNECTS if failure is None else Count.CONNECT_FAILURES
        self._connects.extend((slot, count, took_ns))
        if failure is not None:
            self._error(slot, *failure)

    def connection_fault(self, slot: int, kind: str, message: str) -> None:
        """Count a fault of a connection that belongs to no request."""
        self._error(slot, kind, message)

    def _error(self, slot: int, kind: str, message: str) -> None:
        known = self._kinds.setdefault(slot, set())
        if kind not in known:
            if len(known) >= MOST_KINDS - 1:
                kind = OTHER
            known.add(kind)
        errors, label = self._rows.errors, (slot, kind)
        errors[label] = errors.get(label, 0) + 1
        if label not in self._rows.messages:
            self._rows.messages[label] = _printable(message)

    def cut(self, tick: int) -> None:
        """End the bin that began at `tick`."""
        if self._bins is not None:
            self.absorb()
            self._bins.cut(tick, self._rows.counters)

    def close(self, start_s: int, health: EngineHealth) -> Closing:
        """Set the open second aside under its label and begin another; its last bin is cut."""
        self.absorb()
        bins = NO_BINS if self._bins is None else self._bins.take()
        writes = NO_WRITES if self.writes is None else self.writes.take()
        closing = Closing(self._rows, start_s, health, bins, writes)
        rows = self._spare if self._spare is not None else _Rows(self._slots)
        self._spare, self._rows = self._rows, rows
        return closing


def warm_up() -> None:
    """Use every path once: what libraries import or allocate lazily is not paid under load."""
    recorder = Recorder(1)
    health = EngineHealth(
        engine="",
        wall_ns=0,
        cpu_ns=0,
        in_flight=0,
        in_flight_ns=0,
        backlog=0,
        connections=0,
        stalled_ns=0,
    )
    for _ in range(2):
        for log in (recorder.log_sent, recorder.log_lag, recorder.log_ok, recorder.log_response):
            log(0)
        recorder.log_service(0)
        recorder.log_received(0)
        recorder.connected(0, 0, ("kind", "message"))
        recorder.planned(np.zeros(1, dtype=np.int64))
        recorder.not_ok(
            0,
            Count.FAILED,
            kind="kind",
            message="message",
            due_ns=0,
            response_ns=0,
            service_ns=0,
            received_bytes=0,
        )
        pack_window(recorder.close(0, health).finish())


def _columns(events: list[int], width: int) -> Integers:
    """Rows of `width` numbers as columns; the list is emptied."""
    columns = np.array(events, dtype=np.int64).reshape(-1, width).T
    events.clear()
    return columns


def _printable(text: str) -> str:
    """Bound a message and take control characters out of it: it came from a stranger."""
    shown = "".join([character if character.isprintable() else "?" for character in text])
    return shown[:_LONGEST_MESSAGE]
