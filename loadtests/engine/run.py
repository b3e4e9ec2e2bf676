"""One engine's run: prepare, load, drain, report.

Puts the parts together and owns the order of events: connections before T0, arrivals or
closed load from T0 on, windows every second, and an end by the plan, a Stop, or a lease
that was not renewed. After the end nothing is sent that was not already waiting at the
plan's own end; then the run waits for answers up to the grace and reports its totals.

Laws kept here: no request without a fresh lease; windows without gaps; planned = sent +
dropped and sent = ok + client_error + failed + in flight at stop, in plain integers.
"""

from __future__ import annotations

import asyncio
import gc
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from time import monotonic_ns, process_time_ns
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.engine.bins import BinBook
from loadtests.engine.catalogue import Catalogue
from loadtests.engine.closed import Supply
from loadtests.engine.dialer import Dialer
from loadtests.engine.fleet import Fleet, parts_of
from loadtests.engine.gate import gate_of
from loadtests.engine.manner import Strain
from loadtests.engine.messages import (
    LEASE_DRAIN_NS,
    Configure,
    FinalReport,
    FromEngine,
    Lease,
    Ready,
    ShareOf,
    Start,
    Stop,
    TakeOver,
    WindowReport,
)
from loadtests.engine.pacer import Pacer
from loadtests.engine.pool import Carrier, Pool
from loadtests.engine.recorder import Recorder, warm_up
from loadtests.engine.shares import portion
from loadtests.engine.timer import Timer
from loadtests.engine.traffic import NEVER_NS, Traffic
from loadtests.engine.windows import WindowClock
from loadtests.engine.write_log import WriteLog
from loadtests.errors import TargetError
from loadtests.plan.codec import decode_plan
from loadtests.plan.model import LoadModel, Plan, Share
from loadtests.record.window import Window, pack_window

_ROUND_NS: Final = 10 * NS_PER_MS
_FEWEST_SWEPT: Final = 256  # connections looked at per round for a timeout
_ROUNDS_PER_SWEEP: Final = 5
_MOST_AT_ONCE: Final = 3072  # events that closed load counts in one go, in 0.4 ms
_HOPELESS_ATTEMPTS: Final = 4  # in a row, on every node: the target is not there
_DOWN_ATTEMPTS: Final = 2  # in a row, on one node: start without it
_MOST_TOLD: Final = 3  # refusals in one sentence
_PREPARE_SLACK_NS: Final = 2 * NS_PER_S


class Run:
    """The run of one engine; `send` takes the frames for the agent, `over` is set at the end."""

    def __init__(
        self,
        configure: Configure,
        send: Callable[[FromEngine], None],
        *,
        environment: Mapping[str, str],
        pid: int,
    ) -> None:
        self._configure, self._send, self._pid = configure, send, pid
        self._plan = plan = decode_plan(configure.plan)
        self._warnings: list[str] = []
        self._is_closed = plan.load_model is LoadModel.CLOSED
        index, engines = configure.index, configure.of_engines
        parts = parts_of(plan, index, engines, self._warnings.append)
        in_flight_limit = parts.in_flight_limit
        bins = None
        if plan.binning is not None:
            bins = BinBook(len(plan.slots), plan.binning.marks, self._open_connections)
        recorder = Recorder(
            len(plan.slots), plans_as_sent=self._is_closed, bins=bins, writes=_write_log(plan)
        )
        self._traffic = Traffic(
            recorder,
            gate=gate_of(plan.max_rate_per_s / engines),
            # Connections alone bound the requests in flight where the cap is no lower.
            in_flight_limit=NEVER_NS if in_flight_limit >= parts.carried(plan) else in_flight_limit,
            backlog_limit=portion(plan.backlog_limit, index, engines),
            limit_bytes=plan.response_limit_bytes,
            is_closed=self._is_closed,
        )
        self._recorder = recorder
        catalogue = Catalogue(plan, run_id=configure.run_id, environment=environment)
        share = _share(configure.share)
        self._supply = Supply(plan, share, catalogue)
        self._fleet = Fleet(plan, parts, self._traffic, self._supply)
        self._pools = self._fleet.pools
        self._pacer = Pacer(plan, share, catalogue, self._pools, self._traffic)
        self._dialer = Dialer(
            plan,
            self._traffic,
            connects_per_s=plan.connects_per_s / engines,
            authorised=configure.authorised_hosts,
        )
        self._dialer.on_attempt = self._attempted
        for pool in self._pools:
            pool.on_loss, pool.on_fault = self._lost, self._faulted
        self._windows = WindowClock(
            configure.engine,
            recorder,
            self._traffic,
            connections=self._fleet.connections,
            streams=self._fleet.streams,
            emit=self._emit,
            bins=bins,
        )
        self._sequence = 0
        self._timer = Timer()
        self._t0_ns = self._end_ns = NEVER_NS
        self._lease_ns = 0
        self._stage_edges = [stage.start_ns for stage in plan.stages]
        self._drain_until_ns = NEVER_NS
        self._reason = ""
        self._swept: list[Carrier] = []
        self._strain, self._strained_stage = Strain(), 0
        self.over = asyncio.Event()

    # Preparing

    async def prepare(self) -> None:
        """Resolve, connect, and say Ready; TargetError when nothing can be loaded."""
        self._dialer.load_certificates(self._pools)
        for pool, error in await self._dialer.resolve(self._pools):
            name, host = pool.node.name, pool.endpoint.host
            self._warnings.append(f"node {name}: {host} not resolved: {error}")
        warm_up()
        self._fleet.aim(0)
        wanted = sum(pool.wanted for pool in self._pools)
        rate = self._plan.connects_per_s / self._configure.of_engines
        patience_ns = int(wanted / rate * NS_PER_S) + 2 * self._plan.connect_timeout_ns
        deadline_ns = monotonic_ns() + patience_ns + _PREPARE_SLACK_NS
        while monotonic_ns() < deadline_ns and not self._is_prepared():
            if self.over.is_set():
                return
            self._dialer.fill(self._pools, monotonic_ns())
            await asyncio.sleep(_ROUND_NS / 2 / NS_PER_S)
        self._require_target()
        self._warn_of_missing()
        # What lives now lives for the whole run: no collection looks at it again.
        gc.collect()
        gc.freeze()
        gc.disable()
        warnings = tuple(self._warnings)
        self._send(Ready(self._pid, self._fleet.connections(), warnings))

    def _is_prepared(self) -> bool:
        """All connections are up and meant, or it is plain which nodes are down.

        A node that accepts some connections and refuses others is given the whole time.
        """
        wanting = [pool for pool in self._pools if pool.wanted]
        is_hopeless = all(pool.is_down for pool in wanting)
        attempts = _HOPELESS_ATTEMPTS if is_hopeless else _DOWN_ATTEMPTS
        now_ns = monotonic_ns()
        return all(
            pool.is_settled(now_ns) or (pool.is_down and pool.failures >= attempts)
            for pool in wanting
        )

    def _require_target(self) -> None:
        wanting = [pool for pool in self._pools if pool.wanted]
        if wanting and not any(pool.connections and not pool.is_doubtful for pool in wanting):
            raise TargetError(
                where=", ".join(f"{pool.endpoint.host}:{pool.endpoint.port}" for pool in wanting),
                seen=_told([refusal for pool in wanting for refusal in reversed(pool.refusals)]),
                expected="at least one node that accepts connections",
            )

    def _warn_of_missing(self) -> None:
        for pool in self._pools:
            if len(pool.connections) < pool.wanted:
                why = f" ({pool.down[0]})" if pool.down else ""
                self._warnings.append(
                    f"node {pool.node.name}: {len(pool.connections)} of {pool.wanted}"
                    f" connections at the start{why}"
                )

    # What the agent says

    def start(self, start: Start) -> None:
        """Load begins at T0."""
        self._t0_ns, self._lease_ns = start.t0_ns, start.lease_until_ns
        self._end_ns = start.t0_ns + self._plan.duration_ns
        self._windows.begin(start.t0_ns, start.t0_unix_ns)
        if self._recorder.writes is not None:
            self._recorder.writes.begin(start.t0_ns)
        traffic = self._traffic
        traffic.is_sending = True
        traffic.on_alarm, traffic.on_due = self._alarmed, self._pacer.dispatch
        self._pacer.begin(start.t0_ns)
        self._set_alarm()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._timer.fd, self._wake)
        self._arm(monotonic_ns())
        loop.call_soon(self._round)

    def lease(self, lease: Lease) -> None:
        """Sending is allowed until then; a lease is never shortened."""
        self._lease_ns = max(self._lease_ns, lease.until_ns)
        self._set_alarm()

    def take_over(self, take_over: TakeOver) -> None:
        """Send another share as well."""
        if not self._traffic.is_sending or self._drain_until_ns < NEVER_NS:
            return
        share = _share(take_over.share)
        if self._is_closed:
            self._supply.take_over(share)
        else:
            self._pacer.take_over(share)
        self._arm(monotonic_ns())

    def stop(self, stop: Stop) -> None:
        """Send nothing more and drain."""
        self._halt(monotonic_ns(), stop.grace_ns, stop.reason)
        if self._t0_ns == NEVER_NS and not self.over.is_set():
            self._finish()  # given up at the barrier: nothing was sent, nothing to wait for

    # The loop's turns

    def _set_alarm(self) -> None:
        edge_ns = NEVER_NS
        if self._is_closed:  # the stage of a request is the one it is sent in
            at = bisect_right(self._stage_edges, monotonic_ns() - self._t0_ns)
            edges = [*self._stage_edges, self._plan.duration_ns]
            edge_ns = self._t0_ns + edges[min(at, len(edges) - 1)]
            if monotonic_ns() >= self._end_ns:
                edge_ns = NEVER_NS
        lease_ns = self._lease_ns if self._traffic.is_sending else NEVER_NS
        self._traffic.alarm_ns = min(self._windows.edge_ns, lease_ns, edge_ns)

    def _alarmed(self, now_ns: int) -> None:
        """A window or bin, a stage of closed load, the plan or the lease has ended."""
        if self.over.is_set():
            return
        traffic = self._traffic
        if traffic.is_sending and now_ns >= self._lease_ns:
            grace_ns = min(self._plan.grace_ns, LEASE_DRAIN_NS)
            self._halt(now_ns, grace_ns, "lease expired")
        self._pass_edges(now_ns)
        if self._is_closed and traffic.is_sending:
            if now_ns >= self._end_ns:
                self._halt(now_ns, self._plan.grace_ns, "end of plan")
            self._enter_stage(now_ns)
        self._set_alarm()

    def _pass_edges(self, now_ns: int) -> None:
        """Close every window and cut every bin that has ended."""
        windows = self._windows
        while now_ns >= windows.edge_ns:
            if windows.bin_ends_ns < windows.ends_ns:
                self._count_planned(windows.bin_ends_ns)
                windows.cut()
            else:
                self._close_window(windows.ends_ns)

    def _count_planned(self, until_ns: int) -> None:
        if not self._is_closed:
            self._pacer.count_planned(until_ns)

    def _close_window(self, end_ns: int) -> None:
        self._count_planned(end_ns)
        self._windows.close(end_ns)
        gc.collect(0)

    def _enter_stage(self, now_ns: int) -> None:
        slots = self._plan.slots
        stage = self._stage_at(now_ns)
        self._fleet.enter_stage(stage * len(slots.requests) * len(slots.nodes))

    def _stage_at(self, now_ns: int) -> int:
        if self._t0_ns == NEVER_NS:
            return 0
        return max(0, bisect_right(self._stage_edges, now_ns - self._t0_ns) - 1)

    def _wake(self) -> None:
        """The timer: send what is due."""
        now_ns = monotonic_ns()
        traffic = self._traffic
        if now_ns >= traffic.alarm_ns:
            self._alarmed(now_ns)
        has_prepared = False
        if now_ns >= traffic.due_ns:
            has_prepared = self._pacer.dispatch(now_ns)
            now_ns = monotonic_ns()
        if self._is_closed or (traffic.gate is not None and traffic.backlog_size):
            self._serve(now_ns)
        if not has_prepared or self._recorder.is_behind:  # a step of one or the other
            self._recorder.absorb_part()
        self._arm(now_ns)

    def _serve(self, now_ns: int) -> None:
        if self._traffic.is_sending and now_ns >= self._t0_ns:
            for pool in self._pools:
                pool.serve(now_ns)

    def _arm(self, now_ns: int) -> None:
        traffic = self._traffic
        wake_ns = traffic.due_ns
        if traffic.is_sending:
            if traffic.gate is not None and (traffic.backlog_size or self._is_closed):
                wake_ns = min(wake_ns, max(traffic.gate.opens_ns(), now_ns + NS_PER_MS))
            if self._is_closed:
                wake_ns = min(wake_ns, max(self._fleet.wake_ns(), now_ns + NS_PER_MS // 10))
        if wake_ns < NEVER_NS:
            self._timer.arm(wake_ns)
        else:
            self._timer.clear()

    def _round(self) -> None:
        """Do, every 10 ms, all that need not be done per request."""
        if self.over.is_set():
            return
        now_ns = monotonic_ns()
        self._windows.came_round(now_ns, _ROUND_NS)
        if now_ns >= self._traffic.alarm_ns:
            self._alarmed(now_ns)
        if self._is_closed and self._traffic.is_sending:
            self._follow_level(now_ns)
        self._dialer.fill(self._pools, now_ns)
        self._sweep(now_ns)
        self._feel_strain(now_ns)
        if self._traffic.due_ns - now_ns > NS_PER_MS:  # else arrivals take the steps
            self._pacer.step()
        self._serve(now_ns)
        self._traffic.flush()
        if self._is_closed and self._recorder.is_full:  # no timer takes its steps
            self._recorder.absorb()
        self._windows.step()
        if self._is_at_end(monotonic_ns()):
            self._finish()
            return
        self._arm(now_ns)
        asyncio.get_running_loop().call_later(_ROUND_NS / NS_PER_S, self._round)

    def _follow_level(self, now_ns: int) -> None:
        offset_ns = now_ns - self._t0_ns
        if 0 <= offset_ns < self._plan.duration_ns:
            self._fleet.aim(offset_ns)

    def _feel_strain(self, now_ns: int) -> None:
        """Let arrivals leave in larger groups while the engine is busy."""
        strain, stage = self._strain, self._stage_at(now_ns)
        if now_ns < self._t0_ns or stage != self._strained_stage:
            self._strained_stage = stage
            strain.begin(now_ns, process_time_ns())
        elif strain.is_due(now_ns):
            strain.look(now_ns, process_time_ns(), self._pacer.take_late_ns())
        self._pacer.manner = manner = strain.manner
        events = manner.batch_events
        self._recorder.batch_events = min(events, _MOST_AT_ONCE) if self._is_closed else events

    def _sweep(self, now_ns: int) -> None:
        """Look at a part of the connections for requests that have timed out."""
        if not self._swept:
            self._swept = [c for pool in self._pools for c in pool.all_connections()]
            for pool in self._pools:
                pool.expire_waiting(now_ns)
        size = max(_FEWEST_SWEPT, self._fleet.connections() // _ROUNDS_PER_SWEEP)
        part, self._swept = self._swept[:size], self._swept[size:]
        for connection in part:
            connection.expire_overdue(now_ns)

    # Ending

    def _halt(self, now_ns: int, grace_ns: int, reason: str) -> None:
        """Stop sending; what waits is dropped."""
        traffic = self._traffic
        if self.over.is_set():
            return
        if traffic.is_sending:
            traffic.is_sending = False
            if not self._is_closed:
                self._pacer.stop(now_ns)
            for pool in self._pools:
                pool.shed()
                pool.wanted = 0
        self._reason = self._reason or reason
        self._dialer.is_dialing = False
        self._drain_until_ns = min(self._drain_until_ns, now_ns + grace_ns)
        self._set_alarm()

    def _is_at_end(self, now_ns: int) -> bool:
        traffic = self._traffic
        has_ended = now_ns >= self._end_ns and not self._is_closed and traffic.due_ns == NEVER_NS
        if has_ended and self._drain_until_ns == NEVER_NS:
            # The plan has ended by itself: who waits is still served, for the grace.
            self._reason = "end of plan"
            self._drain_until_ns = now_ns + self._plan.grace_ns
        if self._drain_until_ns == NEVER_NS:
            return False
        is_idle = not traffic.in_flight and not traffic.backlog_size
        return is_idle or now_ns >= self._drain_until_ns

    def _finish(self) -> None:
        """Close the last window and report."""
        now_ns = monotonic_ns()
        self._halt(now_ns, 0, self._reason)
        traffic = self._traffic
        if self._t0_ns < NEVER_NS:
            self._pass_edges(now_ns)
            self._close_window(max(now_ns, self._t0_ns))
            self._windows.finish_pending()
            asyncio.get_running_loop().remove_reader(self._timer.fd)
        for pool in self._pools:
            for connection in pool.all_connections():
                connection.discard_unsent()
        self.over.set()
        self._send(
            FinalReport(
                planned=traffic.planned,
                sent=traffic.sent,
                dropped=traffic.dropped,
                ok=traffic.ok,
                client_error=traffic.client_error,
                failed=traffic.failed,
                in_flight_at_stop=traffic.in_flight,
                reason=self._reason,
                warnings=tuple(self._warnings),
            )
        )

    # What others report

    def _attempted(self, pool: Pool, took_ns: int, failure: tuple[str, str] | None) -> None:
        self._recorder.connected(self._connection_slot(pool), took_ns, failure)

    def _faulted(self, pool: Pool, kind: str, message: str) -> None:
        self._recorder.connection_fault(self._connection_slot(pool), kind, message)

    def _connection_slot(self, pool: Pool) -> int:
        slots = self._plan.slots
        stage = self._stage_at(monotonic_ns())
        return slots.slot(stage, len(slots.requests) - 1, pool.index)

    def _open_connections(self) -> list[tuple[int, int]]:
        return [(self._connection_slot(pool), len(pool.connections)) for pool in self._pools]

    def _lost(self, _pool: Pool) -> None:
        """A connection has ended: replace it at once if that is paid for."""
        if self._dialer.is_dialing:
            self._dialer.fill(self._pools, monotonic_ns())

    def _emit(self, window: Window) -> None:
        self._sequence += 1
        self._send(WindowReport(self._sequence, pack_window(window)))


def _write_log(plan: Plan) -> WriteLog | None:
    """The log of the request that is audited; None without an audit."""
    space = plan.slots
    audited = [index for index, one in enumerate(plan.requests) if plan.is_audited(one.name)]
    slots = [
        space.slot(stage, request, node)
        for stage in range(len(space.stages))
        for request in audited
        for node in range(len(space.nodes))
    ]
    return WriteLog(slots) if slots else None


def _told(refusals: Iterable[tuple[str, str]]) -> str:
    """What attempts to connect met with, each refusal once, the newest of a node first."""
    told = [f"{kind} ({text})" for kind, text in dict.fromkeys(refusals)]
    if len(told) > _MOST_TOLD:
        told[_MOST_TOLD:] = [f"{len(told) - _MOST_TOLD} other refusals"]
    return "; ".join(told) or "no attempt to connect that came to an end"


def _share(wire: ShareOf) -> Share:
    return Share(
        residue=wire.residue,
        modulus=wire.modulus,
        from_ns=wire.from_ns,
    )
