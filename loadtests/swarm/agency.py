"""The agent's state machine: engines, their windows, batches, the lease.

Pure: messages, engine frames, ticks and times go in, actions come out. Nothing the master
sends is taken twice, everything it should know is repeated until it has answered.

Laws: engines get a lease only from a lease; an engine that is lost is reported at once;
after FINAL nothing more comes; a window is dropped by nobody but an acknowledgement.

Longer than the other modules: it is one transition system, and what is not transition
(an engine's frames, batches, the lease) is elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from loadtests.clock import NS_PER_S
from loadtests.engine import messages as engine_messages
from loadtests.engine.messages import FromEngine, ToEngine
from loadtests.plan.codec import decode_plan
from loadtests.plan.model import Plan
from loadtests.record.manifest import HostFacts
from loadtests.record.window import Hiccup
from loadtests.swarm.actions import (
    AgentAction,
    Exit,
    KillEngine,
    RunPreflight,
    SendEngine,
    SendMaster,
    SpawnEngine,
)
from loadtests.swarm.batching import Batcher
from loadtests.swarm.engine_watch import EngineFaultError, EngineWatch, clip_text, clip_texts
from loadtests.swarm.lease import HeldLease
from loadtests.swarm.messages import (
    PROTOCOL,
    Ack,
    AgentPhase,
    Assign,
    Begin,
    EnginePhase,
    Hello,
    Lease,
    Ping,
    Pong,
    Prepare,
    Quit,
    Refuse,
    Snapshot,
    Stop,
    TakeOver,
    ToAgent,
)
from loadtests.swarm.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSetup:
    """What an agent says of itself."""

    agent: str  # [A-Za-z0-9._-], unique in the run: host name or a given name
    incarnation: str  # new for every process, e.g. uuid4().hex
    engines: int
    host: HostFacts
    boot_id: str
    version: str
    versions: dict[str, str]
    code: dict[str, str]  # digests of what it runs, `record.facts.code_digests`
    authorised_hosts: tuple[str, ...]
    unix_minus_monotonic_ns: int
    expects_hiccups: bool  # a ticker runs and reports every second


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What `Prepare` brought."""

    run_id: str
    plan: Plan
    plan_bytes: bytes
    plan_sha256: str
    lease_ns: int


class Agency:
    """One agent process. Every method returns actions that the caller carries out in order."""

    def __init__(self, *, setup: AgentSetup, timing: Timing, now_ns: int) -> None:
        self._setup = setup
        self._timing = timing
        self._phase = AgentPhase.JOINING
        self._actions: list[AgentAction] = []
        self._task: _Task | None = None
        self._start: Begin | None = None
        self._lease = HeldLease(timing.lease_ns)
        self._batcher = Batcher(
            expects_hiccups=setup.expects_hiccups, hiccup_wait_ns=timing.hiccup_wait_ns
        )
        self._engines: list[EngineWatch] = []
        self._sequence = self._takeovers = self._dropped = 0
        self._warnings: tuple[str, ...] = ()
        self._failure: tuple[str, str] | None = None
        self._is_over = self._is_dirty = False
        self._drain_until_ns: int | None = None
        self._tick_ns = self._master_ns = now_ns
        self._sent_ns = self._batches_sent_ns = now_ns - timing.repeat_ns  # due at once
        self._batches_sent = 0

    @property
    def phase(self) -> AgentPhase:
        """How far this agent has come."""
        return self._phase

    def receive(self, message: ToAgent, now_ns: int) -> list[AgentAction]:
        """Take a decoded message of the master."""
        if message.incarnation != self._setup.incarnation or not self._is_of_run(message):
            self._dropped += 1
            return []
        self._master_ns = now_ns
        match message:
            case Prepare():
                self._prepare(message)
            case Assign():
                self._assign(message, now_ns)
            case Begin():
                self._begin(message)
            case Ping():
                self._pong(message.sent_ns, now_ns)
            case Lease() | Ack() | TakeOver():
                self._receive_under_load(message, now_ns)
            case Stop() | Quit() | Refuse():
                self._receive_end(message, now_ns)
        return self._flush(now_ns)

    def _receive_under_load(self, message: Lease | Ack | TakeOver, now_ns: int) -> None:
        match message:
            case Lease():
                self._pong(message.sent_ns, now_ns)
                self._renew(message, now_ns)
            case Ack():
                self._batcher.acknowledge(message.batch)
                if message.lease is not None:
                    self._renew(message.lease, now_ns)
            case TakeOver():
                self._take_over(message)

    def _receive_end(self, message: Stop | Quit | Refuse, now_ns: int) -> None:
        match message:
            case Stop():
                self._drain(message.reason, message.grace_ns, now_ns)
            case Quit():
                is_handed_over = self._phase is AgentPhase.FINAL and not self._batcher.waiting
                self._exit(message.reason, is_ok=is_handed_over)
            case Refuse():
                self._exit(f"refused: {message.reason}", is_ok=False, is_refused=True)

    def _is_of_run(self, message: ToAgent) -> bool:
        if self._task is None:
            return isinstance(message, Prepare | Refuse | Quit)
        return message.run_id == self._task.run_id

    def malformed(self, error: str, now_ns: int) -> list[AgentAction]:
        """Count bytes that `decode_to_agent` refused."""
        del error, now_ns  # counted; the number goes to the master
        self._dropped += 1
        return []

    def _prepare(self, message: Prepare) -> None:
        self._is_dirty = True  # a repeated one asks for our state
        if self._task is not None:
            return
        digest = hashlib.sha256(message.plan).hexdigest()
        if message.protocol != PROTOCOL or digest != message.plan_sha256:
            self._dropped += 1
            return
        try:
            plan = decode_plan(message.plan)
        except ValueError as error:
            self._exit(f"the master's plan: {error}", is_ok=False)
            return
        self._task = _Task(
            run_id=message.run_id,
            plan=plan,
            plan_bytes=message.plan,
            plan_sha256=digest,
            lease_ns=message.lease_ns,
        )
        self._lease = HeldLease(message.lease_ns)
        self._phase = AgentPhase.CHECKING
        self._actions.append(RunPreflight(run_id=message.run_id, plan=plan))

    def checked(
        self, *, warnings: tuple[str, ...], failure: tuple[str, str] | None, now_ns: int
    ) -> list[AgentAction]:
        """Result of `RunPreflight`; `failure` is (family, sentence): target, harness, scenario."""
        if self._phase is AgentPhase.CHECKING:
            self._phase = AgentPhase.CHECKED
            self._warnings = clip_texts(warnings)
            if failure is not None:
                self._fail(*failure)
            self._is_dirty = True
        return self._flush(now_ns)

    def _fail(self, family: str, sentence: str) -> None:
        if self._failure is None:
            self._failure = (clip_text(family), clip_text(sentence))
        self._is_dirty = True

    def _pong(self, sent_ns: int, now_ns: int) -> None:
        assert self._task is not None, "only messages of the run come here"
        self._actions.append(
            SendMaster(
                message=Pong(
                    run_id=self._task.run_id,
                    agent=self._setup.agent,
                    incarnation=self._setup.incarnation,
                    sent_ns=sent_ns,
                    received_ns=now_ns,
                    replied_ns=now_ns,
                    unix_ns=now_ns + self._setup.unix_minus_monotonic_ns,
                )
            )
        )

    def _assign(self, message: Assign, now_ns: int) -> None:
        if self._phase is not AgentPhase.CHECKED or self._task is None:
            return
        self._phase = AgentPhase.SPAWNING
        self._is_dirty = True
        for k in range(self._setup.engines):
            engine, index = f"{self._setup.agent}/{k}", message.first_index + k
            self._engines.append(EngineWatch(k=k, engine=engine, index=index, heard_ns=now_ns))
            self._actions.append(SpawnEngine(k=k, engine=engine))
            self._to_engine(
                k,
                engine_messages.Configure(
                    plan=self._task.plan_bytes,
                    run_id=self._task.run_id,
                    engine=engine,
                    index=index,
                    of_engines=message.of_engines,
                    share=engine_messages.ShareOf(index, message.of_engines, 0),
                    lease_ns=self._task.lease_ns,
                    authorised_hosts=self._setup.authorised_hosts,
                ),
            )

    def _to_engine(self, k: int, message: ToEngine) -> None:
        self._actions.append(SendEngine(k=k, message=message))

    def _begin(self, message: Begin) -> None:
        is_newer = self._start is None or message.attempt > self._start.attempt
        if self._phase in (AgentPhase.READY, AgentPhase.ARMED) and is_newer:
            self._start = message
            self._phase = AgentPhase.ARMED
        self._is_dirty = True

    def _renew(self, message: Lease, now_ns: int) -> None:
        if self._start is None or message.attempt != self._start.attempt:
            return
        if self._phase not in (AgentPhase.ARMED, AgentPhase.RUNNING):
            return
        if not self._lease.renew(message.until_ns, now_ns):
            return
        assert self._lease.until_ns is not None, "renew set it"
        for watch in self._living():
            if self._phase is AgentPhase.RUNNING:
                self._to_engine(watch.k, engine_messages.Lease(self._lease.until_ns))
            else:
                watch.phase = EnginePhase.RUNNING
                self._to_engine(
                    watch.k,
                    engine_messages.Start(
                        self._start.t0_ns, self._start.t0_unix_ns, self._lease.until_ns
                    ),
                )
        if self._phase is AgentPhase.ARMED:
            self._phase = AgentPhase.RUNNING
            self._is_dirty = True

    def _take_over(self, message: TakeOver) -> None:
        """Apply the parts that are new; a repeated or overtaken list has none."""
        if self._phase is not AgentPhase.RUNNING:
            return
        engines = {watch.index: watch for watch in self._living()}
        for part in message.parts[self._takeovers :]:
            share = engine_messages.ShareOf(part.residue, part.modulus, part.from_offset_ns)
            if part.index in engines:  # a lost one's parts are split again by the master
                self._to_engine(engines[part.index].k, engine_messages.TakeOver(share))
            self._is_dirty = True
        self._takeovers = max(self._takeovers, len(message.parts))

    def _living(self) -> list[EngineWatch]:
        return [watch for watch in self._engines if not watch.has_ended]

    def _drain(self, reason: str, grace_ns: int, now_ns: int) -> None:
        if self._phase >= AgentPhase.DRAINING:
            return
        was_running = self._phase is AgentPhase.RUNNING
        self._phase = AgentPhase.DRAINING
        self._drain_until_ns = now_ns + grace_ns + self._timing.kill_margin_ns
        for watch in self._living():
            if was_running:
                self._to_engine(watch.k, engine_messages.Stop(grace_ns, reason))
            else:
                self._lose(watch, f"stopped before the start: {reason}", now_ns)
        self._is_dirty = True

    def engine_frame(self, k: int, frame: FromEngine, now_ns: int) -> list[AgentAction]:
        """Take a frame of engine `k`."""
        watch = self._engines[k] if k < len(self._engines) else None
        if watch is None or watch.phase is EnginePhase.LOST or self._is_over:
            self._dropped += 1  # what a killed engine had still written
            return []
        watch.heard_ns = now_ns
        try:
            self._take_frame(watch, frame, now_ns)
        except EngineFaultError as fault:
            self._lose(watch, f"protocol: {fault}", now_ns)
        return self._flush(now_ns)

    def _take_frame(self, watch: EngineWatch, frame: FromEngine, now_ns: int) -> None:
        match frame:
            case engine_messages.Ready():
                watch.ready(frame)
                self._is_dirty = True
                is_spawning = self._phase is AgentPhase.SPAWNING
                if is_spawning and all(w.phase is EnginePhase.READY for w in self._engines):
                    self._phase = AgentPhase.READY
            case engine_messages.WindowReport():
                window = watch.window(frame)
                self._batcher.add_window(watch.index, frame.sequence, window, frame.window)
            case engine_messages.FinalReport():
                watch.finish(frame, self._offset_ns(now_ns))
                self._is_dirty = True
            case engine_messages.EngineError():
                text = f"{frame.where}: saw {frame.seen}; expected {frame.expected}"
                if self._phase < AgentPhase.RUNNING:
                    self._fail(frame.family, f"{watch.engine}: {text}")
                self._lose(watch, text, now_ns)

    def _offset_ns(self, now_ns: int) -> int | None:
        return None if self._start is None else now_ns - self._start.t0_ns

    def engine_gone(self, k: int, how: str, now_ns: int) -> list[AgentAction]:
        """Engine `k`'s socket ended or its frames are malformed; `how` goes to the archive."""
        watch = self._engines[k] if k < len(self._engines) else None
        if watch is not None and not watch.has_ended and not self._is_over:
            self._lose(watch, how, now_ns)
        return self._flush(now_ns)

    def _lose(self, watch: EngineWatch, reason: str, now_ns: int) -> None:
        watch.lose(reason, self._offset_ns(now_ns))
        self._actions.append(KillEngine(k=watch.k, reason=reason))
        if self._phase < AgentPhase.RUNNING:
            self._fail("harness", f"{watch.engine} did not start: {reason}")
        self._is_dirty = True

    def hiccup(self, start_s: int, hiccup: Hiccup, now_ns: int) -> list[AgentAction]:
        """Take the ticker's figures of a second (unix)."""
        first_s = None if self._start is None else self._start.t0_unix_ns // NS_PER_S
        is_running = self._phase in (AgentPhase.RUNNING, AgentPhase.DRAINING)
        if is_running and first_s is not None and start_s >= first_s:
            self._batcher.add_hiccup(start_s, hiccup)
        return self._flush(now_ns)

    def request_stop(self, reason: str, now_ns: int) -> list[AgentAction]:
        """SIGTERM or SIGINT of this agent: stop its engines, hand everything over."""
        if self._task is None:
            self._exit(reason, is_ok=False)
        else:
            if self._phase < AgentPhase.RUNNING:
                self._fail("harness", f"{self._setup.agent} was told to stop: {reason}")
            self._drain(reason, self._task.plan.grace_ns, now_ns)
        return self._flush(now_ns)

    def tick(self, now_ns: int) -> list[AgentAction]:
        """Call about every 100 ms: beats, repeats, notices hung engines and ended leases."""
        gap_ns = now_ns - self._tick_ns
        self._tick_ns = now_ns
        if gap_ns > self._timing.stall_ns:
            # We were stopped ourselves: engines and master get their time again.
            self._master_ns += gap_ns
            for watch in self._engines:
                watch.heard_ns = min(now_ns, watch.heard_ns + gap_ns)
        if self._phase is AgentPhase.RUNNING and self._lease.has_ended(now_ns):
            assert self._task is not None, "a running agent has a plan"
            grace_ns = min(self._task.plan.grace_ns, engine_messages.LEASE_DRAIN_NS)
            self._drain("lease ended", grace_ns, now_ns)
        for watch in self._living():
            if self._is_hung(watch, now_ns):
                self._lose(watch, "hung: silent for too long", now_ns)
        self._check_orphaned(now_ns)
        return self._flush(now_ns)

    def _is_hung(self, watch: EngineWatch, now_ns: int) -> bool:
        if self._phase is AgentPhase.DRAINING:
            return self._drain_until_ns is not None and now_ns > self._drain_until_ns
        if self._phase is not AgentPhase.RUNNING or self._start is None or self._task is None:
            return False  # a slow start is the master's to judge
        plan = self._task.plan
        end_ns = self._start.t0_ns + plan.duration_ns
        if now_ns > end_ns + NS_PER_S:
            return now_ns > end_ns + plan.grace_ns + self._timing.kill_margin_ns
        # Its first window is due a second after T0.
        since_ns = max(watch.heard_ns, self._start.t0_ns + NS_PER_S)
        return now_ns - since_ns > self._timing.silence_ns

    def _check_orphaned(self, now_ns: int) -> None:
        is_loading = self._phase in (AgentPhase.RUNNING, AgentPhase.DRAINING)
        if self._task is None or is_loading:
            return
        if now_ns - self._master_ns > self._timing.orphan_ns:
            self._exit("the master is silent", is_ok=False)

    def _exit(self, reason: str, *, is_ok: bool, is_refused: bool = False) -> None:
        if not self._is_over:
            self._is_over = True
            self._actions.append(Exit(is_ok=is_ok, is_refused=is_refused, reason=reason))

    def _settle(self, now_ns: int) -> None:
        """Close what is complete; FINAL when every engine has ended."""
        if self._phase < AgentPhase.RUNNING or self._phase is AgentPhase.FINAL:
            return
        if not self._living():
            self._batcher.close(None, now_ns)
            self._phase = AgentPhase.FINAL
            self._is_dirty = True
            return
        through_s = self._through_s()
        if through_s is not None and self._batcher.close(through_s, now_ns):
            self._is_dirty = True

    def _through_s(self) -> int | None:
        """Last second that every living engine has reported."""
        passed = [watch.through_s for watch in self._living()]
        known = [second for second in passed if second is not None]
        return min(known) if known and len(known) == len(passed) else None

    def _flush(self, now_ns: int) -> list[AgentAction]:
        self._settle(now_ns)
        if self._is_over:
            self._actions = [a for a in self._actions if not isinstance(a, SendMaster)]
        elif self._is_dirty or now_ns - self._sent_ns >= self._timing.beat_ns:
            self._actions.append(SendMaster(message=self._report(now_ns)))
            self._sent_ns = now_ns
            self._is_dirty = False
        actions, self._actions = self._actions, []
        return actions

    def _report(self, now_ns: int) -> Hello | Snapshot:
        if self._task is None:
            return Hello(
                protocol=PROTOCOL,
                agent=self._setup.agent,
                incarnation=self._setup.incarnation,
                host=self._setup.host,
                boot_id=self._setup.boot_id,
                engines=self._setup.engines,
                version=self._setup.version,
                versions=self._setup.versions,
                code=self._setup.code,
            )
        self._sequence += 1
        has_new = self._batcher.last_batch > self._batches_sent
        repeats = now_ns - self._batches_sent_ns >= self._timing.repeat_ns
        snapshot = self._snapshot(self._task)
        if not self._batcher.waiting or not (has_new or repeats):
            return snapshot
        self._batches_sent, self._batches_sent_ns = self._batcher.last_batch, now_ns
        return msgspec.structs.replace(snapshot, batches=self._batcher.unacknowledged())

    def _snapshot(self, task: _Task) -> Snapshot:
        family, failure = self._failure or (None, None)
        return Snapshot(
            run_id=task.run_id,
            agent=self._setup.agent,
            incarnation=self._setup.incarnation,
            sequence=self._sequence,
            plan_sha256=task.plan_sha256,
            phase=self._phase,
            attempt=0 if self._start is None else self._start.attempt,
            takeovers=self._takeovers,
            last_batch=self._batcher.last_batch,
            complete_through_s=self._batcher.closed_through_s(self._through_s()),
            engines=tuple(watch.state() for watch in self._engines),
            batches=(),
            dropped_messages=self._dropped,
            warnings=self._warnings,
            failure_family=family,
            failure=failure,
        )
