"""The engine's small parts: shares, gate, checks, outcomes, recorder, requests."""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from bench_of_connections import HEALTH, Bench
from engine_plans import node, plan_for, request
from hostile_server import OK
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.checks import failed_check
from loadtests.engine.gate import Gate, gate_of
from loadtests.engine.manner import EXACT, MANNERS, STRAINED, Manner, Strain
from loadtests.engine.outcome import count_of_status, kind_of_connect_error, kind_of_loss
from loadtests.engine.pool import backoff_ns
from loadtests.engine.recorder import MOST_KINDS, SLOT_BITS, SLOT_MASK, Recorder
from loadtests.engine.shares import connections_per_node, portion, split_by_weight
from loadtests.plan.model import BodyContains, Feed, JsonEquals, MaxBytes
from loadtests.record.error_kinds import Trait, traits_of
from loadtests.record.window import Count, Kind, histogram_of, pack_window, unpack_window


@settings(max_examples=60)
@given(total=st.integers(0, 10**6), engines=st.integers(1, 300))
def test_parts_of_engines_add_up(total: int, engines: int) -> None:
    """The parts of all engines are the total, and differ by at most one."""
    parts = [portion(total, index, engines) for index in range(engines)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


@settings(max_examples=60)
@given(
    total=st.integers(0, 10_000),
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=12),
    turn=st.integers(0, 100),
)
def test_weighted_parts_add_up(total: int, weights: list[float], turn: int) -> None:
    """Parts by weight are the total, each within one of its exact part."""
    parts = split_by_weight(total, weights, turn)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1 + 1e-6


def test_no_node_is_left_without_a_connection() -> None:
    """A node of small weight still gets one connection, taken from the richest."""
    assert connections_per_node(10, [100.0, 1.0, 1.0], 0) == [8, 1, 1]
    assert connections_per_node(2, [1.0, 1.0, 1.0], 0) == [1, 1, 1]


@pytest.mark.parametrize(("slots", "most"), [(5, 10), (400, 50)])
def test_a_closed_second_is_read_out_in_half_of_the_next_one(slots: int, most: int) -> None:
    """In fifty rounds at most, a few rows in each; the window is the one that `finish` gives."""

    def filled() -> Recorder:
        recorder = Recorder(slots)
        for slot in range(slots):
            recorder.log_sent(slot)
            recorder.log_lag(slot)
            recorder.log_ok(slot)
            recorder.log_response(1_000 * slot)
            recorder.log_service(slot)
            recorder.log_received(1)
        return recorder

    closing, steps, window = filled().close(7, HEALTH), 0, None
    while window is None:
        window, steps = closing.step(), steps + 1
    assert most // 2 < steps <= most
    assert pack_window(window) == pack_window(filled().close(7, HEALTH).finish())


def test_the_odd_connection_goes_round() -> None:
    """Engines that split the same total do not all favour the same node."""
    sums = np.sum([connections_per_node(5, [1.0] * 4, engine) for engine in range(4)], axis=0)
    assert sums.tolist() == [5, 5, 5, 5]


@settings(max_examples=60)
@given(
    rate=st.floats(0.5, 5000),
    pauses_ms=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    burst=st.integers(1, 200),
)
def test_no_interval_holds_more_than_the_ceiling(
    rate: float, pauses_ms: list[int], burst: int
) -> None:
    """Bursts after any pauses: no 100 ms hold more than rate x 0.1 s (at least one)."""
    gate = Gate(rate)
    now_ns, sent = 0, []
    for pause_ms in pauses_ms:
        now_ns += pause_ms * NS_PER_MS
        sent += [now_ns for _ in range(burst) if gate.take(now_ns)]
        gate.wrote(now_ns)
    limit = max(1, int(rate * 0.1))
    assert gate.interval_ns >= 100 * NS_PER_MS
    for first, last in zip(sent, sent[limit:], strict=False):
        assert last - first >= gate.interval_ns


@settings(max_examples=200)
@given(
    rate=st.floats(0.5, 3000),
    turns=st.lists(
        st.tuples(
            st.integers(0, 250_000),  # us until the turn
            st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60),
            st.integers(0, 400_000),  # us from the last of them until all have been written
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_no_interval_sees_more_leave_than_the_ceiling(
    rate: float, turns: list[tuple[int, list[tuple[int, bool]], int]]
) -> None:
    """Stopped anywhere between taking and writing, ramps and resumes: what *leaves* is bounded.

    Each request may leave at any time from when it was taken to when its turn ended, so the
    bound must hold between the latest time of one and the earliest of another.
    """
    gate = Gate(rate)
    now_ns = 0
    taken: list[int] = []  # earliest time of leaving
    written: list[int] = []  # latest time of leaving
    for pause_us, requests, stall_us in turns:
        now_ns += pause_us * 1000
        for step_us, is_stopped in requests:
            now_ns += step_us * (400_000 if is_stopped else 1000)  # up to 120 ms inside a turn
            if gate.take(now_ns):
                taken.append(now_ns)
        now_ns += stall_us * 1000
        gate.wrote(now_ns)
        written += [now_ns] * (len(taken) - len(written))
    limit = max(1, int(rate * 0.1))
    for latest_ns, earliest_ns in zip(written, taken[limit:], strict=False):
        assert earliest_ns - latest_ns >= gate.interval_ns


def test_what_was_held_back_leaves_evenly() -> None:
    """After a stall one allowance leaves at once, the rest at even distances behind it."""
    gate = Gate(400.0)
    sent = []
    for now_ms in range(1000):
        sent += [now_ms for _ in range(500) if gate.take(now_ms * NS_PER_MS)]
        gate.wrote(now_ms * NS_PER_MS)
    assert sent[:40] == [0] * 40
    rest = sent[40:]
    assert rest[0] == 100
    for first, later in zip(rest, rest[10:], strict=False):
        assert 20 <= later - first <= 30
    assert len(rest) == pytest.approx(360, abs=5)


def test_a_gate_opens_when_it_says() -> None:
    """A refused request may go at `opens_ns`, and not a nanosecond earlier."""
    gate = Gate(20.0)
    assert gate.take(0)
    gate.wrote(0)
    assert gate.take(5)
    gate.wrote(5)
    assert not gate.take(99_999_999)
    assert gate.opens_ns() == 100_000_000
    assert gate.take(100_000_000)
    assert gate_of(10.0**9) is None


@pytest.mark.parametrize(
    ("check", "body", "holds"),
    [
        (BodyContains(text="b"), b"abc", True),
        (BodyContains(text="x"), b"abc", False),
        (MaxBytes(size_bytes=3), b"abc", True),
        (MaxBytes(size_bytes=2), b"abc", False),
        (JsonEquals(pointer="/a", value=1), b'{"a":1}', True),
        (JsonEquals(pointer="/a", value=1.0), b'{"a":1}', True),
        (JsonEquals(pointer="/a", value=1), b'{"a":true}', False),
        (JsonEquals(pointer="/a", value=True), b'{"a":1}', False),
        (JsonEquals(pointer="/a", value="1"), b'{"a":1}', False),
        (JsonEquals(pointer="/a", value=None), b'{"a":null}', True),
        (JsonEquals(pointer="/a", value=None), b"{}", False),
        (JsonEquals(pointer="/a/0/b", value="x"), b'{"a":[{"b":"x"}]}', True),
        (JsonEquals(pointer="/a/-", value="x"), b'{"a":["x"]}', False),
        (JsonEquals(pointer="/a/b", value="x"), b'{"a":"text"}', False),
        (JsonEquals(pointer="", value=5), b"5", True),
        (JsonEquals(pointer="/a", value=1), b"not json", False),
        (JsonEquals(pointer="/a", value=1), b"", False),
        (JsonEquals(pointer="/a", value=1), b"[" * 100_000, False),
    ],
)
def test_checks(check: Any, body: bytes, *, holds: bool) -> None:
    """A check holds, or its failure is described; what cannot be evaluated has failed."""
    assert (failed_check([check], body) is None) == holds


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "connect_refused"),
        (TimeoutError(), "connect_timeout"),
        (OSError(errno.ETIMEDOUT, "x"), "connect_timeout"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "client_port_exhausted"),
        (OSError(errno.EMFILE, "x"), "client_descriptors_exhausted"),
        (OSError(errno.EHOSTUNREACH, "x"), "connect_failed"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "dns"),
        (ssl.SSLCertVerificationError(1, "x"), "tls"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "reset"),
    ],
)
def test_connect_errors_have_kinds(error: Exception, kind: str) -> None:
    """Whatever the kernel or a library says, a failed attempt has one of our kinds."""
    assert kind_of_connect_error(error) == kind


def test_losses_and_statuses_have_kinds() -> None:
    """An end before any byte, in the middle, by reset; 429 is the target's, 404 the client's."""
    assert kind_of_loss(None, has_response_bytes=False) == "closed_before_response"
    assert kind_of_loss(None, has_response_bytes=True) == "closed"
    assert kind_of_loss(ConnectionResetError(), has_response_bytes=True) == "reset"
    assert count_of_status(404) is Count.CLIENT_ERROR
    assert count_of_status(429) is count_of_status(500) is count_of_status(301) is Count.FAILED


def test_backoff_doubles_up_to_a_second_with_jitter() -> None:
    """50 ms doubled up to 1 s, and half to all of that by luck."""
    assert [backoff_ns(n, 1.0) // NS_PER_MS for n in (1, 2, 3, 6, 60)] == [50, 100, 200, 1000, 1000]
    assert backoff_ns(1, 0.0) == 25 * NS_PER_MS


def test_a_connection_that_ends_before_any_request_was_a_failed_attempt() -> None:
    """The server refuses after the handshake: counted, named, paused for, and remembered."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        (pool,) = bench.pools
        faults: list[tuple[str, str]] = []
        pool.on_fault = lambda _pool, kind, message: faults.append((kind, message))
        for failures in (1, 2, 3):
            bench.connect().connection_lost(ssl.SSLError("certificate required"))
            assert pool.failures == failures
            assert pool.down == ("tls", "n1: ('certificate required',)")
            assert pool.retry_ns > bench.clock.now_ns
            bench.clock.now_ns = pool.retry_ns
        assert faults == [("tls", "('certificate required',)")] * 3
        pool.offer(0, 0, 0, bench.tasks[0], b"")
        assert (bench.traffic.failed, bench.traffic.dropped) == (1, 0)


def test_what_never_left_has_a_kind_that_says_so() -> None:
    """Turned away or without a free connection: sent for conservation, yet not a byte left."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        (pool,) = bench.pools
        task = bench.tasks[0]
        pool.offer(0, 0, 0, task, b"")
        pool.expire_waiting(task.timeout_ns)
        bench.connect().connection_lost(ssl.SSLError("certificate required"))
        pool.offer(0, 0, 0, task, b"")
        bench.traffic.planned = 2
        window = bench.close()
        bench.check_conservation(window)
        assert window.errors.items() >= {(0, "no_connection"): 1, (0, "connect_tls"): 1}.items()
        kinds = [kind for slot, kind in window.errors if slot == 0]
        assert all(Trait.NEVER_LEFT in traits_of(kind) for kind in kinds)


@pytest.mark.parametrize("proof", ["served", "lasted"])
def test_a_server_that_turned_away_is_believed_when_it_keeps_a_connection(proof: str) -> None:
    """A connection alone is no success then; one that served or lasted is."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        (pool,) = bench.pools
        bench.connect().connection_lost(None)
        kept = bench.connect()
        pool.settle(bench.clock.now_ns)
        assert (pool.is_doubtful, pool.failures) == (True, 1)
        if proof == "served":
            bench.begin()
            pool.settle(bench.clock.now_ns)
            assert pool.is_doubtful
            kept.data_received(OK)
        else:
            bench.clock.now_ns += NS_PER_S
        pool.settle(bench.clock.now_ns)
        assert (pool.is_doubtful, pool.failures, pool.down) == (False, 0, None)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_race_with_an_idle_close_has_its_own_kind_and_no_retry(method: str) -> None:
    """The server closes a kept connection while a request is on its way: failed, sent once."""
    with Bench.of(plan_for(1, [request("/plain", method=method)])) as bench:
        made, other = bench.connect(), bench.connect()
        assert bench.begin() is made
        made.data_received(OK)
        bench.begin().data_received(OK)
        assert bench.begin() is made
        made.connection_lost(None)
        window = bench.close()
        bench.check_conservation(window)
        assert window.errors == {(0, "closed_before_response"): 1}
        assert [len(bench.sockets[each].sent) for each in (made, other)] == [2, 1]
        assert (bench.pools[0].failures, bench.pools[0].missing) == (0, 1)


@pytest.mark.parametrize("how", ["old", "used"])
def test_an_idle_connection_that_ends_later_is_no_failed_attempt(how: str) -> None:
    """Servers close idle connections: the next attempt is made at once."""
    with Bench.of(plan_for(1, [request("/plain")])) as bench:
        (pool,) = bench.pools
        made = bench.connect()
        if how == "old":
            bench.clock.now_ns += NS_PER_S
        else:
            bench.begin()
            made.data_received(OK)
        made.connection_lost(None)
        assert (pool.failures, pool.down, pool.missing) == (0, None, 1)


def test_kinds_are_bounded_and_their_counts_conserved() -> None:
    """A server that invents statuses fills 64 kinds; the rest is `other`, nothing is lost."""
    recorder = Recorder(1)
    for status in range(600, 1000):
        recorder.not_ok(
            0,
            Count.FAILED,
            kind=f"status_{status}",
            message="x\x1b[2J" * 1000,
            due_ns=0,
            response_ns=5,
            service_ns=5,
            received_bytes=1,
        )
    window = recorder.close(1, HEALTH).finish()
    assert len(window.errors) == MOST_KINDS
    assert sum(window.errors.values()) == window.total(Count.FAILED) == 400
    assert window.errors[0, "other"] == 400 - (MOST_KINDS - 1)
    assert all(len(text) <= 200 and "\x1b" not in text for text in window.messages.values())


@settings(max_examples=60)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 10**13), st.integers(0, 10**6)), max_size=60
    ),
    closes_after=st.integers(0, 60),
)
def test_windows_hold_every_event_once(
    events: list[tuple[int, int, int]], closes_after: int
) -> None:
    """Over two windows, read out in steps, counts and histograms are those of the events."""
    recorder, windows = Recorder(6), []
    for number, (slot, latency_ns, size) in enumerate(events):
        if number == closes_after:
            windows.append(recorder.close(1, HEALTH).finish())
        recorder.log_sent(size << SLOT_BITS | slot)
        recorder.log_lag(latency_ns // 2)
        recorder.log_ok(size << SLOT_BITS | slot)
        recorder.log_response(latency_ns)
        recorder.log_service(latency_ns)
        recorder.log_received(size)
    windows.append(recorder.close(2, HEALTH).finish())
    windows = [unpack_window(pack_window(window)) for window in windows]
    for count in (Count.SENT, Count.OK):
        assert sum(window.total(count) for window in windows) == len(events)
    for count in (Count.BYTES_SENT, Count.BYTES_RECEIVED):
        assert sum(window.total(count) for window in windows) == sum(e[2] for e in events)
    for slot in range(6):
        mine = [e[1] for e in events if e[0] == slot]
        merged = histogram_of(windows[-1], Kind.RESPONSE, [slot])
        for window in windows[:-1]:
            merged += histogram_of(window, Kind.RESPONSE, [slot])
        assert merged.n == len(mine)
        if mine:
            exact_us = max(mine) // 1000
            assert merged.max_us() == pytest.approx(exact_us, rel=0.001, abs=1) or (
                exact_us > 3_600_000_000 and merged.overflow
            )


def test_counting_waits_for_a_better_moment_but_not_for_ever() -> None:
    """A batch may wait; two of what was sent, of what came back or of stream events may not."""
    for column in ("sents", "oks", "extras"):
        recorder = Recorder(1)
        seen = []
        for _ in range(2 * EXACT.batch_events):
            if column == "sents":
                recorder.log_many_sent([0], [0])
            elif column == "extras":
                recorder.log_stream(0, Kind.MESSAGE, 1)
            else:
                recorder.log_many_ok([0], [1], [1], [1])
            seen.append((recorder.is_full, recorder.is_behind))
        batch = EXACT.batch_events
        assert seen == [(n >= batch, n >= 2 * batch) for n in range(1, 2 * batch + 1)]
        recorder.absorb()
        assert (recorder.is_full, recorder.is_behind) == (False, False)


@pytest.mark.parametrize("steps", range(7))
def test_a_batch_that_is_being_binned_belongs_to_the_window_it_was_counted_in(steps: int) -> None:
    """However far its steps have come when the second ends, nothing of it slips into the next."""
    recorder, count = Recorder(2), EXACT.batch_events + 3
    for number in range(count):
        for log in (recorder.log_sent, recorder.log_ok):
            log(10 << SLOT_BITS | number % 2)
        for log in (recorder.log_lag, recorder.log_response, recorder.log_service):
            log(number * 1000)
        recorder.log_received(7)
    recorder.connected(1, 5000, None)
    for _ in range(steps):
        recorder.absorb_part()
    recorder.log_sent(0)
    recorder.log_lag(0)
    window = recorder.close(1, HEALTH).finish()
    assert (window.total(Count.SENT), window.total(Count.OK)) == (
        count + 1,
        count,
    )
    assert window.total(Count.BYTES_RECEIVED) == 7 * count
    assert window.total(Count.CONNECTS) == 1
    kinds = {kind: histogram_of(window, kind, [0, 1]).n for kind in Kind}
    assert [kinds[Kind.RESPONSE], kinds[Kind.SERVICE], kinds[Kind.CONNECT]] == [
        count, count, 1,
    ]  # fmt: skip
    assert kinds[Kind.SEND_LAG] == count + 1
    assert recorder.close(2, HEALTH).finish().slots.size == 0


@given(
    rate=st.sampled_from([5.0, 70.0, 400.0, 5_000.0]),
    steps=st.lists(
        st.tuples(st.integers(0, 120_000_000), st.integers(0, 60), st.booleans()), max_size=40
    ),
)
def test_many_pass_the_gate_as_one_by_one(rate: float, steps: list[tuple[int, int, bool]]) -> None:
    """As many may go as if each had asked, also when some were written later than taken."""
    together, alone, now_ns = Gate(rate), Gate(rate), 10**12
    for passed_ns, wanted, is_written in steps:
        now_ns += passed_ns
        expected = 0
        while expected < wanted and alone.take(now_ns):
            expected += 1
        assert together.take_many(now_ns, wanted) == expected
        if is_written:
            together.wrote(now_ns + 10_000)
            alone.wrote(now_ns + 10_000)
        assert together.opens_ns() == alone.opens_ns()


def test_recorder_memory_is_reused() -> None:
    """Windows closed one after the other leave no trace in the next one."""
    recorder = Recorder(3)
    for number in range(5):
        recorder.log_sent(number % 3)
        recorder.log_lag(number * 1_000_000)
        window = recorder.close(number, HEALTH).finish()
        assert window.total(Count.SENT) == 1
        assert int(window.counts.sum()) == 1
        assert window.slots.tolist() == [number % 3]


def _payloads(
    plan: Any, sequences: list[int], requests: list[int], nodes: list[int]
) -> list[bytes]:
    catalogue = Catalogue(plan, run_id="run-1", environment={"TOKEN": "s3cret"})
    slots = [
        plan.slots.slot(0, request, node) for request, node in zip(requests, nodes, strict=True)
    ]
    dues_ns = [number * 1000 for number in range(len(slots))]
    parcels = catalogue.parcels(dues_ns, np.array(sequences, dtype=np.int64), np.array(slots))
    assert [due_ns for due_ns, _, _, _ in parcels] == dues_ns
    assert [code & SLOT_MASK for _, code, _, _ in parcels] == slots
    assert all(code >> SLOT_BITS == len(payload) for _, code, _, payload in parcels)
    return [payload for _, _, _, payload in parcels]


@pytest.mark.parametrize("body", [b"always", b"${seq}"])
def test_parcels_of_closed_load_are_those_of_open_load_without_a_time(body: bytes) -> None:
    """Whether they are looked up or made: code, task and bytes of every slot."""
    plan = plan_for(8080, [request("/x"), request("/y", method="POST", body=body, name="y")])
    catalogue = Catalogue(plan, run_id="run-1", environment={})
    slots = np.array([plan.slots.slot(0, number, 0) for number in (1, 0, 1, 1)])
    sequences = np.arange(4, dtype=np.int64)
    assert catalogue.is_ready == (body == b"always")
    parcels = catalogue.undated(sequences, slots)
    assert parcels == catalogue.parcels([0] * 4, sequences, slots)
    assert {payload[:1] for _, _, _, payload in parcels} == {b"G", b"P"}


def test_one_request_alone_has_the_bytes_it_has_among_others() -> None:
    """On each of two nodes, head and body: nothing to tell apart is no other rendering."""
    varying = request("/x?n=${seq}", method="POST", body=b"${uuid} ${seq}")
    nodes = (node(8080), node(9000, name="n2", host="::1"))
    sequences, places = [5, 6, 7, 123456], [1, 0, 1, 1]
    others = (request("/y", name="y"), request("/z?${seq}", name="z"))
    alone, among = (
        _payloads(plan_for(8080, requests, nodes=nodes), sequences, [0] * 4, places)
        for requests in ([varying], [varying, *others])
    )
    assert alone == among
    assert [b"[::1]:9000" in payload for payload in alone] == [True, False, True, True]
    assert all(b"n=%d " % n in payload for n, payload in zip(sequences, alone, strict=True))


def test_request_bytes_are_complete_http() -> None:
    """Method, base path, Host, given headers, defaults and the body's length are all there."""
    plan = plan_for(
        8080,
        [
            request(
                "/x?a=1", headers=(("Accept", "text/plain"), ("Authorization", "${env:TOKEN}"))
            ),
            request("/y", method="POST", body=b"abc", name="y"),
            request("/z", method="DELETE", name="z"),
            request("/w", method="POST", name="w"),
        ],
        nodes=(node(8080), node(9000, name="n2", host="::1")),
    )
    got = _payloads(plan, [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 0, 1])
    assert got[0].split(b"\r\n") == [
        b"GET /x?a=1 HTTP/1.1",
        b"Host: 127.0.0.1:8080",
        b"Accept: text/plain",
        b"Authorization: s3cret",
        b"User-Agent: headroom",
        b"",
        b"",
    ]
    assert got[1].startswith(b"POST /y HTTP/1.1\r\nHost: [::1]:9000\r\n")
    assert got[1].endswith(b"\r\nContent-Length: 3\r\n\r\nabc")
    assert b"Content-Length" not in got[2]
    assert got[3].endswith(b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "body", [b'{"id":"${uuid}"}', b"${seq}", b"${words.text}", b"${seq}-${hex:4}"]
)
@pytest.mark.parametrize("path", ["/p", "/p/${seq}"])
def test_the_length_is_the_bodys_for_every_sequence(body: bytes, path: str) -> None:
    """Fixed, varying and empty bodies: Content-Length is right, and values are the plan's."""
    plan = plan_for(
        80,
        [request(path, name="r", method="POST", body=body)],
        feeds=(Feed(name="words", columns=("text",), rows=(("a",), ("",), ("long text",))),),
        nodes=(node(80), node(81, name="n2")),
    )
    sequences = [0, 1, 2, 9, 10, 12345, 10**9]
    seen = set()
    for number, data in enumerate(_payloads(plan, sequences, [0] * 7, [0, 1] * 3 + [0])):
        head, _, sent = data.partition(b"\r\n\r\n")
        (length,) = (line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        assert int(length.split(b":")[1]) == len(sent)
        assert (b"Host: 127.0.0.1\r\n" in head + b"\r\n") == (number % 2 == 0)
        assert b"\x00" not in data
        assert b"\x01" not in data
        if b"seq" in body:
            assert sent.startswith(b"%d" % sequences[number])
        seen.add(data)
    assert len(seen) == 7 or (body == b"${words.text}" and path == "/p")


def _manners(busy_ratios: list[float], *, late_ms: float = 0.0) -> list[Manner]:
    """Manner after each look, one every 100 ms."""
    strain, now_ns, cpu_ns, seen = Strain(), 10 * NS_PER_S, 77, []
    strain.begin(now_ns, cpu_ns)
    for busy_ratio in busy_ratios:
        assert not strain.is_due(now_ns + 99 * NS_PER_MS)
        now_ns, cpu_ns = now_ns + 100 * NS_PER_MS, cpu_ns + round(busy_ratio * 100 * NS_PER_MS)
        assert strain.is_due(now_ns)
        strain.look(now_ns, cpu_ns, round(late_ms * NS_PER_MS))
        seen.append(strain.manner)
    return seen


def test_an_engine_becomes_exact_by_steps_and_bears_a_hiccup() -> None:
    """Two hard looks in a row change nothing once it is exact, three do; so does one overload."""
    steps = list(MANNERS[-2::-1])
    assert steps[-1] is EXACT
    calm = [0.5] * len(steps)
    assert _manners([*calm, 0.95, 0.95, 0.5]) == [*steps, EXACT, EXACT, EXACT]
    assert _manners([*calm, 0.95, 0.95, 0.95]) == [*steps, EXACT, EXACT, STRAINED]
    assert _manners([*calm, 1.0]) == [*steps, STRAINED]


def test_an_engine_that_cannot_be_exact_tries_it_step_by_step_every_ten_seconds() -> None:
    """A step that is too much ends the try, long before the engine is overloaded."""
    tried = [0.58, 0.82, 0.84, 0.84]
    seen = _manners([*tried, *[0.5] * 100, *tried])
    steps = [*MANNERS[-2:-4:-1], MANNERS[-3]]
    assert seen == [*steps, *[STRAINED] * 101, *steps, STRAINED]
    assert _manners([0.58, 0.84, 0.82]) == [MANNERS[-2], *MANNERS[-2:-4:-1]]
    assert _manners([0.58, 0.98]) == [MANNERS[-2], STRAINED]
    assert set(_manners([1.0] * 500)) == {STRAINED}


def test_an_engine_that_is_busy_enough_does_not_try() -> None:
    """From 0.6 of a core on, strained, being exact would take more than 0.8."""
    assert set(_manners([0.61] * 300)) == {STRAINED}
    turns_per_s = NS_PER_S / EXACT.quantum_ns - NS_PER_S / STRAINED.quantum_ns
    assert 0.6 + 35e-6 * turns_per_s > 0.83


def test_an_engine_that_is_nearly_idle_is_exact_at_once() -> None:
    """A turn of a cold engine takes 75 us of CPU: being exact costs it half of a core."""
    assert _manners([0.29]) == [EXACT]
    assert _manners([0.31]) == [MANNERS[-2]]
    turns_per_s = NS_PER_S / EXACT.quantum_ns - NS_PER_S / STRAINED.quantum_ns
    assert 0.3 + 75e-6 * turns_per_s < 0.83


def test_an_engine_that_is_always_late_is_strained_whatever_it_uses() -> None:
    """A core that is shared, or a quota: CPU never comes near 83 %. Two late looks are hiccups."""
    strained = [STRAINED] * 100
    assert _manners([0.2] * 104, late_ms=2.1) == [EXACT, EXACT, *strained, STRAINED, STRAINED]
    assert set(_manners([0.2] * 104, late_ms=1.9)) == {EXACT}


def test_every_stage_begins_strained() -> None:
    """What was idle may have nine tenths of a core to do from one moment to the next."""
    strain = Strain()
    strain.look(100 * NS_PER_MS, 0, 0)
    assert strain.manner is EXACT
    strain.begin(150 * NS_PER_MS, 0)
    assert strain.manner is STRAINED
    assert not strain.is_due(249 * NS_PER_MS)


def test_no_step_towards_exactness_costs_much() -> None:
    """A turn takes up to 55 us of CPU by itself: from 83 % of a core no step leads to 91 %."""
    turns_per_s = [NS_PER_S / manner.quantum_ns for manner in MANNERS]
    assert max(55e-6 * (fast - slow) for fast, slow in pairwise(turns_per_s)) < 0.08


def _sent_at_us(plan: Any, *, quantum_ns: int, step_us: int, until_us: int) -> list[int]:
    """Microseconds from T0 at which requests leave when the clock is looked at each `step_us`."""
    with Bench.of(plan) as bench:
        for _ in range(20):
            bench.connect()
        pacer, t0_ns = bench.pacer(), bench.clock.now_ns
        pacer.manner = replace(EXACT, quantum_ns=quantum_ns)
        pacer.begin(t0_ns)
        sent_at_us: list[int] = []
        for now_us in range(0, until_us, step_us):
            bench.clock.now_ns = t0_ns + now_us * 1000
            before = bench.traffic.sent
            pacer.dispatch(bench.clock.now_ns)
            sent_at_us += [now_us] * (bench.traffic.sent - before)
    return sent_at_us


def test_dense_arrivals_leave_together() -> None:
    """An arrival each ms and a quantum of 3.5 ms: all that is due leaves at its end."""
    plan = plan_for(1, [request("/ok")], level=1000, seconds=1)
    sent_at_us = _sent_at_us(plan, quantum_ns=3_500_000, step_us=10, until_us=8_000)
    first_us = sent_at_us[0]
    groups = [(at - first_us, sent_at_us.count(at)) for at in sorted(set(sent_at_us))]
    assert [at for at, _ in groups] == [0, 3500, 7000]
    assert [count for _, count in groups[:2]] in ([1, 3], [1, 4])


def test_what_is_overdue_leaves_in_parts_so_that_answers_are_read_between() -> None:
    """10,000 arrivals due at once: a turn hands out a few hundred, and is due again at once."""
    plan = plan_for(1, [request("/ok")], level=10_000, seconds=1, backlog_limit=20_000)
    with Bench.of(plan) as bench:
        bench.connect()
        pacer = bench.pacer()
        pacer.begin(bench.clock.now_ns)
        bench.clock.now_ns += NS_PER_S
        planned = []
        while bench.traffic.due_ns <= bench.clock.now_ns:
            before = bench.traffic.planned
            pacer.dispatch(bench.clock.now_ns)
            planned.append(bench.traffic.planned - before)
        assert sum(planned) == 10_000
        assert max(planned) <= 512  # all of them, before: no answer was read for ever
        assert bench.traffic.sent + bench.traffic.backlog_size == 10_000


def test_lone_arrivals_leave_on_time() -> None:
    """Where arrivals are rarer than quanta, each leaves when it is due."""
    plan = plan_for(1, [request("/ok")], level=1000, seconds=1)
    sent_at_us = _sent_at_us(plan, quantum_ns=EXACT.quantum_ns, step_us=10, until_us=8_000)
    assert {later - earlier for earlier, later in pairwise(sent_at_us)} == {1000}
