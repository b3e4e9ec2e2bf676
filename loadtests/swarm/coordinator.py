"""The master's state machine: membership, barrier, T0, leases, merge, loss policy, end.

Pure: messages, ticks and times go in, actions come out; no clock, no socket, no thread.
Whatever is not confirmed is said again, whatever was said before changes nothing.

Laws: membership is frozen at the barrier with exactly N agents; load begins only when all
have confirmed the same T0; a batch is acknowledged only after its `Journal`; a share is
taken over only when its old holder cannot send any more; a run with a loss says so.

Longer than the other modules: it is one transition system, and its parts (membership,
ledgers, leases, holdings, accounts, guards) are already elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.codec import plan_hash
from loadtests.plan.model import LoadModel, LossPolicy, Plan, Share
from loadtests.record.manifest import Outcome
from loadtests.swarm.accounting import Account, Books, build_account
from loadtests.swarm.actions import (
    Barrier,
    EndCause,
    Finished,
    Journal,
    MasterAction,
    Record,
    Release,
    Send,
)
from loadtests.swarm.chronicle import Chronicle
from loadtests.swarm.guards import build_guards
from loadtests.swarm.holdings import Holding, Loss, PlannedCount, divide
from loadtests.swarm.lease import ClockEstimate
from loadtests.swarm.membership import Member, Standing
from loadtests.swarm.merge import Assembly, Ledger, LedgerError
from loadtests.swarm.messages import (
    PROTOCOL,
    Ack,
    AgentPhase,
    Assign,
    Begin,
    EnginePhase,
    EngineState,
    Hello,
    Lease,
    Ping,
    Pong,
    Prepare,
    Quit,
    Refuse,
    SharePart,
    Snapshot,
    Stop,
    TakeOver,
    ToAgent,
    ToMaster,
)
from loadtests.swarm.timing import Timing

_STRANGERS: Final = 1000  # incarnations without a part that are remembered
_START_PATIENCE: Final = 4  # before load runs, silence may be so many times longer
_CAUSES: Final = {"target": EndCause.TARGET, "scenario": EndCause.SCENARIO}


class RunPhase(IntEnum):
    """How far a run has come; it never goes back."""

    GATHERING = 0  # agents join and are checked
    SPAWNING = 1  # membership is frozen, engines start
    ARMING = 2  # T0 is told and confirmed
    RUNNING = 3  # leases are renewed
    STOPPING = 4  # engines drain, FINALs come in
    LINGERING = 5  # everything is in; Quit is repeated
    ENDED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What a coordinator is made for."""

    run_id: str
    plan: Plan
    plan_bytes: bytes  # `encode_plan(plan)`
    agents: int  # exactly so many take part
    version: str  # of the package; agents of another one are refused
    boot_id: str  # of this kernel; equal ids share CLOCK_MONOTONIC
    unix_minus_monotonic_ns: int  # of the master: labels only
    join_wait_ns: int  # until the agents must have come


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """For progress displays."""

    phase: RunPhase
    agents_joined: int
    agents_alive: int
    engines: int
    engines_alive: int
    elapsed_ns: int | None  # since T0, negative before it; None before the barrier
    t0_ns: int | None
    events: int
    stop_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Why and when the run is being ended."""

    cause: EndCause
    reason: str
    at_ns: int
    deadline_ns: int  # FINALs that are not in by then are missing


class Coordinator:
    """One run. Every method returns actions that the caller carries out in order."""

    def __init__(self, *, setup: RunSetup, timing: Timing, planned: PlannedCount) -> None:
        self._setup, self._timing, self._planned = setup, timing, planned
        self._plan = setup.plan
        self._sha256 = plan_hash(setup.plan_bytes)
        self._phase = RunPhase.GATHERING
        self._actions: list[MasterAction] = []
        self._members: dict[str, Member] = {}  # by incarnation
        self._strangers: dict[str, int] = {}  # incarnation -> last answered
        self._holdings: dict[int, Holding] = {}
        self._assembly = Assembly()
        self._guards = build_guards(setup.plan)
        self._chronicle = Chronicle(setup.unix_minus_monotonic_ns)
        self._attempt = 0
        self._t0_ns: int | None = None
        self._phase_since_ns: int | None = None
        self._tick_ns: int | None = None
        self._end: _End | None = None

    # ---- inputs ---------------------------------------------------------------------

    def receive(self, peer: str, message: ToMaster, now_ns: int) -> list[MasterAction]:
        """Take a decoded message; `peer` is the transport's name for its sender."""
        if self._phase is RunPhase.ENDED:
            return []
        if isinstance(message, Hello):
            self._hello(peer, message, now_ns)
        else:
            member = self._members.get(message.incarnation)
            if member is None or member.agent != message.agent:
                self._stranger(peer, message, now_ns)
            elif member.peer != peer or message.run_id != self._setup.run_id:
                self._drop("message_foreign", peer, f"claims to be {message.agent}", now_ns)
            elif isinstance(message, Pong):
                self._pong(member, message, now_ns)
            else:
                self._snapshot(member, message, now_ns)
        self._advance(now_ns)
        return self._take_actions()

    def malformed(self, peer: str, error: str, now_ns: int) -> list[MasterAction]:
        """Count bytes that `decode_to_master` refused."""
        if self._phase is not RunPhase.ENDED:
            self._drop("message_malformed", peer, error, now_ns)
        return self._take_actions()

    def left(self, peer: str, now_ns: int) -> list[MasterAction]:
        """The transport says that a peer is gone for good (quit, connection closed)."""
        for member in [m for m in self._members.values() if m.peer == peer]:
            member.has_quit = True
            if member.is_working and self._phase < RunPhase.LINGERING:
                self._lose(member, "left", now_ns)
        self._advance(now_ns)
        return self._take_actions()

    def request_stop(self, reason: str, now_ns: int) -> list[MasterAction]:
        """End gracefully on the user's wish; further calls change nothing."""
        self._stop(EndCause.USER, reason, now_ns)
        self._advance(now_ns)
        return self._take_actions()

    def tick(self, now_ns: int) -> list[MasterAction]:
        """Call about every 100 ms: renews, repeats, notices silence, releases windows."""
        if self._phase is RunPhase.ENDED:
            return []
        if self._phase_since_ns is None:
            self._phase_since_ns = now_ns
        self._forgive_stall(now_ns)
        for member in list(self._members.values()):
            if self._phase >= RunPhase.LINGERING:
                break
            if member.is_working and now_ns - member.heard_ns > self._silence_ns():
                seconds = (now_ns - member.heard_ns) / NS_PER_S
                self._lose(member, f"silent for {seconds:.1f} s", now_ns)
        self._release()
        for member in self._members.values():
            self._repeat(member, now_ns)
        self._advance(now_ns)
        return self._take_actions()

    def status(self, now_ns: int) -> Status:
        """Figures for a progress display."""
        return Status(
            phase=self._phase,
            agents_joined=len(self._members),
            agents_alive=sum(member.is_alive for member in self._members.values()),
            engines=sum(member.hello.engines for member in self._members.values()),
            engines_alive=len(self._living_engines()),
            elapsed_ns=None if self._t0_ns is None else now_ns - self._t0_ns,
            t0_ns=self._t0_ns,
            events=self._chronicle.count,
            stop_reason=None if self._end is None else self._end.reason,
        )

    def account(self) -> Account:
        """The books as they stand; final after `Finished`."""
        end_ns = self._plan.duration_ns
        if self._end is not None and self._t0_ns is not None:
            end_ns = min(end_ns, max(0, self._end.at_ns - self._t0_ns))
        return build_account(
            Books(
                members=tuple(sorted(self._members.values(), key=lambda m: m.first_index)),
                holdings=self._holdings,
                archived=self._assembly.totals,
                t0_unix_ns=self._t0_unix_ns(),
                end_ns=end_ns,
                went_to_plan_end=self._end is not None and end_ns == self._plan.duration_ns,
                is_open_load=self._plan.load_model is LoadModel.OPEN,
                planned=self._planned,
                master_wall_ns=self._setup.unix_minus_monotonic_ns,
                noise=self._chronicle.warnings(),
            )
        )

    # ---- small parts ----------------------------------------------------------------

    def _take_actions(self) -> list[MasterAction]:
        actions, self._actions = self._actions, []
        return actions

    def _send(self, member: Member, message: ToAgent) -> None:
        self._actions.append(Send(peer=member.peer, message=message))

    def _tell(self, kind: str, who: str, text: str, now_ns: int) -> None:
        self._actions.append(Record(event=self._chronicle.tell(kind, who, text, now_ns)))

    def _drop(self, kind: str, who: str, text: str, now_ns: int) -> None:
        event = self._chronicle.noise(kind, who, text, now_ns)
        if event is not None:
            self._actions.append(Record(event=event))

    def _enter(self, phase: RunPhase, now_ns: int) -> None:
        self._phase, self._phase_since_ns = phase, now_ns

    def _alive(self) -> list[Member]:
        return [member for member in self._members.values() if member.is_alive]

    def _t0_unix_ns(self) -> int | None:
        return None if self._t0_ns is None else self._t0_ns + self._setup.unix_minus_monotonic_ns

    def _offset_ns(self, now_ns: int) -> int:
        assert self._t0_ns is not None, "there is no load before T0"
        return now_ns - self._t0_ns

    def _silence_ns(self) -> int:
        is_starting = self._phase < RunPhase.RUNNING
        return self._timing.silence_ns * (_START_PATIENCE if is_starting else 1)

    def _forgive_stall(self, now_ns: int) -> None:
        """After a stall of our own, silence is not the agents' fault: their time starts anew."""
        gap_ns = 0 if self._tick_ns is None else now_ns - self._tick_ns
        self._tick_ns = now_ns
        if gap_ns > self._timing.stall_ns:
            self._tell("master_stalled", "master", f"stood still for {gap_ns / 1e9:.1f} s", now_ns)
            for member in self._members.values():
                member.heard_ns = min(now_ns, member.heard_ns + gap_ns)

    # ---- joining --------------------------------------------------------------------

    def _hello(self, peer: str, hello: Hello, now_ns: int) -> None:
        known = self._members.get(hello.incarnation)
        if known is not None:
            if known.peer != peer or known.agent != hello.agent:
                self._drop("message_foreign", peer, f"claims to be {hello.agent}", now_ns)
            return
        refusal = self._refusal(hello)
        if refusal is not None:
            self._refuse(peer, hello.incarnation, hello.agent, refusal, now_ns)
        elif any(m.agent == hello.agent for m in self._members.values()):
            text = "a second agent of this name waits until the first one is gone"
            self._once(hello.incarnation, "agent_duplicate", hello.agent, text, now_ns)
        elif len(self._members) >= self._setup.agents:
            text = f"the run has its {self._setup.agents} agents; this one waits as a spare"
            self._once(hello.incarnation, "agent_spare", hello.agent, text, now_ns)
        else:
            self._join(peer, hello, now_ns)

    def _refusal(self, hello: Hello) -> str | None:
        if hello.protocol != PROTOCOL or hello.version != self._setup.version:
            return (
                f"version {hello.version} (protocol {hello.protocol}), expected "
                f"{self._setup.version} (protocol {PROTOCOL})"
            )
        if self._phase is RunPhase.GATHERING:
            return None
        if any(member.agent == hello.agent for member in self._members.values()):
            return "membership is frozen: a new incarnation of an agent has no part in the run"
        return "membership is frozen: it came too late"

    def _join(self, peer: str, hello: Hello, now_ns: int) -> None:
        is_same_kernel = bool(hello.boot_id) and hello.boot_id == self._setup.boot_id
        self._members[hello.incarnation] = Member(
            peer=peer,
            hello=hello,
            clock=ClockEstimate(is_same_kernel=is_same_kernel),
            joined_ns=now_ns,
            heard_ns=now_ns,
        )
        self._tell("agent_joined", hello.agent, f"joined with {hello.engines} engines", now_ns)
        self._repeat(self._members[hello.incarnation], now_ns)

    def _once(self, incarnation: str, kind: str, who: str, text: str, now_ns: int) -> None:
        if incarnation not in self._strangers:
            self._note_stranger(incarnation, now_ns)
            self._drop(kind, who, text, now_ns)

    def _note_stranger(self, incarnation: str, now_ns: int) -> None:
        if len(self._strangers) >= _STRANGERS:
            self._strangers.pop(next(iter(self._strangers)))
        self._strangers[incarnation] = now_ns

    def _stranger(self, peer: str, message: Pong | Snapshot, now_ns: int) -> None:
        text = f"{message.agent}@{message.incarnation} of run {message.run_id} has no part in this"
        self._refuse(peer, message.incarnation, message.agent, text, now_ns)

    def _refuse(self, peer: str, incarnation: str, who: str, reason: str, now_ns: int) -> None:
        last_ns = self._strangers.get(incarnation)
        if last_ns is not None and now_ns - last_ns < self._timing.repeat_ns:
            return
        self._note_stranger(incarnation, now_ns)
        self._drop("agent_refused", who, reason, now_ns)
        message = Refuse(run_id=self._setup.run_id, incarnation=incarnation, reason=reason[:1000])
        self._actions.append(Send(peer=peer, message=message))

    # ---- what members say -----------------------------------------------------------

    def _pong(self, member: Member, pong: Pong, now_ns: int) -> None:
        wall_ns = pong.unix_ns - pong.replied_ns
        is_sound = member.clock.add(
            pong.sent_ns, pong.received_ns, pong.replied_ns, now_ns, wall_ns
        )
        if not is_sound:
            self._drop("message_impossible", member.agent, "a pong before its ping", now_ns)
            return
        if self._phase is RunPhase.GATHERING and member.clock.rounds < self._timing.clock_rounds:
            self._ping(member, now_ns)

    def _ping(self, member: Member, now_ns: int) -> None:
        self._send(
            member,
            Ping(run_id=self._setup.run_id, incarnation=member.incarnation, sent_ns=now_ns),
        )

    def _snapshot(self, member: Member, snapshot: Snapshot, now_ns: int) -> None:
        if snapshot.plan_sha256 != self._sha256:
            self._drop("plan_differs", member.agent, f"plan {snapshot.plan_sha256}", now_ns)
            return
        self._take_batches(member, snapshot, now_ns)
        if not member.adopt(snapshot):
            return
        member.heard_ns = now_ns
        member.note_watermark()
        if not member.is_alive:
            self._tell_back(member, now_ns)
        if snapshot.failure is not None and self._phase < RunPhase.RUNNING:
            cause = _CAUSES.get(snapshot.failure_family or "", EndCause.HARNESS)
            self._stop(cause, f"{member.agent}: {snapshot.failure}", now_ns)
        for state in snapshot.engines:
            self._engine_state(member, state, now_ns)

    def _take_batches(self, member: Member, snapshot: Snapshot, now_ns: int) -> None:
        source = f"{member.agent}@{member.incarnation}"
        for batch in snapshot.batches:
            try:
                window = member.ledger.take(batch)
            except LedgerError as error:
                self._drop(error.kind, member.agent, str(error), now_ns)
                break
            if window is not None:
                self._actions.append(Journal(source=source, window=window))
                self._assembly.add(window)
        if snapshot.batches:
            member.note_watermark()
            self._send(
                member,
                Ack(
                    run_id=self._setup.run_id,
                    incarnation=member.incarnation,
                    batch=member.ledger.contiguous,
                ),
            )

    def _tell_back(self, member: Member, now_ns: int) -> None:
        if "back" not in member.sent_ns:
            member.sent_ns["back"] = now_ns
            text = "was given up and is heard again: what it hands over counts, it gets no lease"
            self._tell("agent_back", member.agent, text, now_ns)

    def _engine_state(self, member: Member, state: EngineState, now_ns: int) -> None:
        holding = self._holdings.get(state.index)
        if holding is None or holding.incarnation != member.incarnation:
            self._drop("engine_foreign", member.agent, f"names engine {state.index}", now_ns)
            return
        if holding.loss is not None or not member.is_alive or self._t0_ns is None:
            return
        last_ns = self._offset_ns(now_ns)
        if state.ended_offset_ns is not None:
            last_ns = state.ended_offset_ns  # by the agent's clock, as its engine's schedule
        if state.phase is EnginePhase.LOST:
            self._lose_engines([holding], state.reason, last_ns, now_ns, now_ns)
        elif state.phase is EnginePhase.FINAL and self._is_early(last_ns):
            self._lose_engines([holding], f"ended: {state.reason}", last_ns, now_ns, now_ns)

    def _is_early(self, last_ns: int) -> bool:
        """An engine ended before the plan did, and nobody had told it to."""
        is_natural = self._end is None or self._end.cause is EndCause.PLAN
        return is_natural and last_ns < self._plan.duration_ns

    # ---- losses ---------------------------------------------------------------------

    def _lose(self, member: Member, how: str, now_ns: int) -> None:
        """Give a member up."""
        member.standing, member.lost_ns = Standing.LOST, now_ns
        self._tell("agent_lost", member.agent, how, now_ns)
        if self._phase is RunPhase.GATHERING:
            del self._members[member.incarnation]  # another one may take its place
            return
        if self._phase < RunPhase.RUNNING:
            self._stop(EndCause.HARNESS, f"{member.agent} was lost at the start: {how}", now_ns)
            return
        held = [
            holding
            for holding in self._holdings.values()
            if holding.incarnation == member.incarnation and holding.loss is None
        ]
        # Its engines may still be sending, out of our sight, until their lease has ended.
        free_ns = max(now_ns, (member.granted_until_ns or now_ns) + self._timing.lease_margin_ns)
        last_ns = self._offset_ns(min(member.heard_ns, now_ns))
        self._lose_engines(held, f"{member.agent}: {how}", last_ns, free_ns, now_ns)

    def _lose_engines(
        self, lost: list[Holding], how: str, last_ns: int, free_ns: int, now_ns: int
    ) -> None:
        """Apply the loss policy; nobody sends the shares from `free_ns` (master's clock) on."""
        free_offset_ns = min(self._plan.duration_ns, self._offset_ns(free_ns))
        for holding in lost:
            holding.loss = Loss(how=how, last_ns=last_ns, free_ns=free_offset_ns, cut_ns=None)
            self._tell("engine_lost", holding.engine, how, now_ns)
        is_running = self._phase is RunPhase.RUNNING
        is_draining = self._end is not None and self._end.cause is EndCause.PLAN
        if not lost or not (is_running or is_draining):
            return
        names = ", ".join(holding.engine for holding in lost)
        if self._plan.loss_policy is LossPolicy.ABORT:
            self._stop(EndCause.LOSS, f"lost {names}: {how}", now_ns)
        elif is_running and not self._living_engines():
            self._stop(EndCause.LOSS, f"no engine is left: lost {names}: {how}", now_ns)
        elif is_running and self._plan.loss_policy is LossPolicy.REDISTRIBUTE:
            self._redistribute(lost, free_ns, now_ns)

    def _living_engines(self) -> list[Holding]:
        """Engines that are not known to have ended."""
        ended = {
            state.index
            for member in self._members.values()
            for state in member.engine_states
            if state.phase >= EnginePhase.FINAL
        }
        return [
            holding
            for holding in self._holdings.values()
            if holding.loss is None and holding.index not in ended
        ]

    def _redistribute(self, lost: list[Holding], free_ns: int, now_ns: int) -> None:
        """Divide the shares between the survivors, from a whole second on."""
        earliest_ns = self._offset_ns(max(free_ns, now_ns + self._timing.takeover_ns))
        cut_ns = max(0, -(-earliest_ns // NS_PER_S)) * NS_PER_S
        if cut_ns >= self._plan.duration_ns:
            return
        survivors = self._living_engines()
        heirs: dict[str, Member] = {}
        for holding in lost:
            assert holding.loss is not None, "only lost engines come here"
            holding.loss = replace(holding.loss, cut_ns=cut_ns)
            for part in divide(holding, survivors, cut_ns):
                heir = self._hand_share(self._holdings[part.index], part.share)
                heirs[heir.incarnation] = heir
            text = f"{len(survivors)} engines take over from second {cut_ns // NS_PER_S}"
            self._tell("takeover", holding.engine, text, now_ns)
        for member in heirs.values():
            self._tell_takeovers(member, now_ns)

    def _hand_share(self, heir: Holding, share: Share) -> Member:
        member = self._members[heir.incarnation]
        heir.shares.append(share)
        member.takeovers.append(SharePart(heir.index, share.residue, share.modulus, share.from_ns))
        return member

    def _tell_takeovers(self, member: Member, now_ns: int) -> None:
        member.sent_ns["take_over"] = now_ns
        self._send(
            member,
            TakeOver(
                run_id=self._setup.run_id,
                incarnation=member.incarnation,
                parts=tuple(member.takeovers),
            ),
        )

    # ---- phases ---------------------------------------------------------------------

    def _advance(self, now_ns: int) -> None:
        """Take the transitions whose conditions hold."""
        match self._phase:
            case RunPhase.GATHERING:
                self._advance_gathering(now_ns)
            case RunPhase.SPAWNING:
                self._advance_spawning(now_ns)
            case RunPhase.ARMING:
                self._advance_arming(now_ns)
            case RunPhase.RUNNING | RunPhase.STOPPING:
                self._advance_load(now_ns)
            case RunPhase.LINGERING:
                self._advance_lingering(now_ns)
            case RunPhase.ENDED:
                pass

    def _advance_gathering(self, now_ns: int) -> None:
        members = list(self._members.values())
        is_checked = all(
            member.phase is AgentPhase.CHECKED and member.clock.rounds >= self._timing.clock_rounds
            for member in members
        )
        if len(members) == self._setup.agents and is_checked:
            self._freeze(now_ns)
            return
        since_ns = now_ns if self._phase_since_ns is None else self._phase_since_ns
        if now_ns - since_ns > self._setup.join_wait_ns:
            names = ", ".join(sorted(m.agent for m in members)) or "none"
            reason = f"expected {self._setup.agents} agents; came and were checked: {names}"
            self._stop(EndCause.HARNESS, reason, now_ns)

    def _freeze(self, now_ns: int) -> None:
        """Pass the barrier: from now on nobody joins. Shares go by agents' names."""
        first = 0
        for member in sorted(self._members.values(), key=lambda m: m.agent):
            member.first_index = first
            first += member.hello.engines
            member.ledger = Ledger(range(member.first_index, first))
        for member in self._members.values():
            for k in range(member.hello.engines):
                index = member.first_index + k
                self._holdings[index] = Holding(
                    index=index,
                    engine=f"{member.agent}/{k}",
                    incarnation=member.incarnation,
                    shares=[Share(residue=index, modulus=first, from_ns=0)],
                )
        text = f"{len(self._members)} agents with {first} engines"
        self._tell("barrier_passed", "master", text, now_ns)
        self._enter(RunPhase.SPAWNING, now_ns)

    def _advance_spawning(self, now_ns: int) -> None:
        if all(member.phase >= AgentPhase.READY for member in self._members.values()):
            self._enter(RunPhase.ARMING, now_ns)
            self._propose_t0(now_ns)
            return
        connecting_ns = int(self._plan.connections / self._plan.connects_per_s * NS_PER_S)
        limit_ns = self._timing.start_ns + connecting_ns + self._plan.connect_timeout_ns
        self._check_start(limit_ns, AgentPhase.READY, "did not get their engines ready", now_ns)

    def _check_start(self, limit_ns: int, phase: AgentPhase, what: str, now_ns: int) -> None:
        since_ns = now_ns if self._phase_since_ns is None else self._phase_since_ns
        if now_ns - since_ns > limit_ns:
            late = sorted(m.agent for m in self._members.values() if m.phase < phase)
            self._stop(EndCause.HARNESS, f"{', '.join(late)} {what} in time", now_ns)

    def _propose_t0(self, now_ns: int) -> None:
        wall_ns = self._setup.unix_minus_monotonic_ns
        t0_unix_ns = -(-(now_ns + self._timing.lead_ns + wall_ns) // NS_PER_S) * NS_PER_S
        self._t0_ns = t0_unix_ns - wall_ns
        self._attempt += 1
        kind = "t0_chosen" if self._attempt == 1 else "t0_moved"
        self._tell(kind, "master", f"T0 is unix second {t0_unix_ns // NS_PER_S}", now_ns)
        self._actions.append(Barrier(t0_unix_ns=t0_unix_ns, t0_ns=self._t0_ns))
        for member in self._alive():
            member.sent_ns.pop("begin", None)

    def _advance_arming(self, now_ns: int) -> None:
        assert self._t0_ns is not None, "entering this phase proposed one"
        if all(m.snapshot and m.snapshot.attempt == self._attempt for m in self._members.values()):
            self._enter(RunPhase.RUNNING, now_ns)
            self._tell("load_confirmed", "master", "all agents have confirmed T0", now_ns)
            for member in self._alive():
                self._renew(member, now_ns)
            return
        self._check_start(self._timing.start_ns, AgentPhase.ARMED, "did not confirm T0", now_ns)
        is_arming = self._phase is RunPhase.ARMING
        if is_arming and now_ns > self._t0_ns - self._timing.confirm_ns:
            self._propose_t0(now_ns)
            for member in self._alive():
                self._repeat(member, now_ns)

    def _advance_load(self, now_ns: int) -> None:
        offset_ns = self._offset_ns(now_ns)
        if self._phase is RunPhase.RUNNING and offset_ns >= self._plan.duration_ns:
            margin_ns = self._plan.grace_ns + self._timing.drain_margin_ns
            self._end = _End(
                cause=EndCause.PLAN,
                reason="the last stage is over",
                at_ns=now_ns,
                deadline_ns=now_ns + margin_ns,
            )
            self._enter(RunPhase.STOPPING, now_ns)
        if self._end is not None and now_ns > self._end.deadline_ns:
            for member in self._alive():
                if member.is_working:
                    self._lose(member, "no FINAL in time", now_ns)
        if self._phase is RunPhase.STOPPING and not any(m.is_working for m in self._alive()):
            self._judge_end()
            self._linger(now_ns)

    def _judge_end(self) -> None:
        """Under `abort`, a run whose engines fell short of their shares is not complete."""
        assert self._end is not None, "this phase has an end"
        is_strict = self._plan.loss_policy is LossPolicy.ABORT
        if self._end.cause is not EndCause.PLAN or not is_strict:
            return
        lost = self.account().lost_windows
        if lost:
            planned = sum(window.planned for window in lost)
            reason = f"{planned} planned arrivals were lost, the first of {lost[0].who}"
            self._end = replace(self._end, cause=EndCause.LOSS, reason=reason)

    def _stop(self, cause: EndCause, reason: str, now_ns: int) -> None:
        """End the run before its plan does; the first reason counts."""
        if self._phase >= RunPhase.LINGERING:
            return
        if self._end is not None and self._end.cause is not EndCause.PLAN:
            return
        margin_ns = self._plan.grace_ns + self._timing.drain_margin_ns
        self._end = _End(cause=cause, reason=reason, at_ns=now_ns, deadline_ns=now_ns + margin_ns)
        self._tell("stopping", "master", f"{cause.value}: {reason}", now_ns)
        if self._phase < RunPhase.RUNNING:
            self._linger(now_ns)
            return
        self._enter(RunPhase.STOPPING, now_ns)
        for member in self._alive():
            member.sent_ns.pop("stop", None)
            self._repeat_load(member, now_ns)

    def _linger(self, now_ns: int) -> None:
        self._release_all()
        self._enter(RunPhase.LINGERING, now_ns)
        for member in self._members.values():
            self._quit(member, now_ns)

    def _advance_lingering(self, now_ns: int) -> None:
        assert self._end is not None, "entering this phase sets it"
        assert self._phase_since_ns is not None, "entering this phase sets it"
        is_alone = all(m.has_quit for m in self._members.values() if m.is_alive)
        if not is_alone and now_ns - self._phase_since_ns <= self._timing.linger_ns:
            return
        self._release_all()
        outcome = {EndCause.PLAN: Outcome.COMPLETE, EndCause.HARNESS: Outcome.CRASHED}.get(
            self._end.cause, Outcome.ABORTED
        )
        self._tell("finished", "master", f"{outcome.value}: {self._end.reason}", now_ns)
        self._actions.append(
            Finished(outcome=outcome, cause=self._end.cause, reason=self._end.reason)
        )
        self._enter(RunPhase.ENDED, now_ns)

    # ---- what is said again ---------------------------------------------------------

    def _repeat(self, member: Member, now_ns: int) -> None:
        """Say what a member has not confirmed."""
        if not member.is_alive:
            self._repeat_lost(member, now_ns)
            return
        match self._phase:
            case RunPhase.GATHERING:
                self._repeat_gathering(member, now_ns)
            case RunPhase.SPAWNING:
                self._repeat_spawning(member, now_ns)
            case RunPhase.ARMING:
                self._repeat_arming(member, now_ns)
            case RunPhase.RUNNING | RunPhase.STOPPING:
                self._repeat_load(member, now_ns)
            case RunPhase.LINGERING | RunPhase.ENDED:
                self._quit(member, now_ns)

    def _repeat_gathering(self, member: Member, now_ns: int) -> None:
        timing = self._timing
        if member.snapshot is None and member.is_due("prepare", timing.repeat_ns, now_ns):
            self._send(
                member,
                Prepare(
                    run_id=self._setup.run_id,
                    incarnation=member.incarnation,
                    protocol=PROTOCOL,
                    plan=self._setup.plan_bytes,
                    plan_sha256=self._sha256,
                    lease_ns=timing.lease_ns,
                ),
            )
        is_measured = member.clock.rounds >= timing.clock_rounds
        every_ns = timing.repeat_ns if is_measured else timing.clock_round_ns
        if member.is_due("ping", every_ns, now_ns):
            self._ping(member, now_ns)

    def _repeat_spawning(self, member: Member, now_ns: int) -> None:
        is_assigned = member.phase >= AgentPhase.SPAWNING
        if not is_assigned and member.is_due("assign", self._timing.beat_ns, now_ns):
            self._send(
                member,
                Assign(
                    run_id=self._setup.run_id,
                    incarnation=member.incarnation,
                    first_index=member.first_index,
                    of_engines=len(self._holdings),
                ),
            )
        if member.is_due("ping", self._timing.repeat_ns, now_ns):
            self._ping(member, now_ns)

    def _repeat_arming(self, member: Member, now_ns: int) -> None:
        t0_ns, t0_unix_ns = self._t0_ns, self._t0_unix_ns()
        assert t0_ns is not None, "this phase has a T0"
        assert t0_unix_ns is not None, "this phase has a T0"
        is_told = member.snapshot is not None and member.snapshot.attempt == self._attempt
        if not is_told and member.is_due("begin", self._timing.beat_ns, now_ns):
            self._send(
                member,
                Begin(
                    run_id=self._setup.run_id,
                    incarnation=member.incarnation,
                    attempt=self._attempt,
                    t0_ns=t0_ns + member.clock.offset_ns,
                    t0_unix_ns=t0_unix_ns,
                ),
            )
        if member.is_due("ping", self._timing.repeat_ns, now_ns):
            self._ping(member, now_ns)

    def _repeat_load(self, member: Member, now_ns: int) -> None:
        if not member.is_working:
            return  # its FINAL is in; Quit follows when everybody's is
        if self._end is None or self._end.cause is EndCause.PLAN:
            if member.is_due("lease", self._timing.renew_ns, now_ns):
                self._renew(member, now_ns)
            taken = 0 if member.snapshot is None else member.snapshot.takeovers
            if len(member.takeovers) > taken and member.is_due(
                "take_over", self._timing.repeat_ns, now_ns
            ):
                self._tell_takeovers(member, now_ns)
            return
        if member.is_due("stop", self._timing.repeat_ns, now_ns):
            self._send_stop(member, self._end.reason)
            self._ping(member, now_ns)

    def _renew(self, member: Member, now_ns: int) -> None:
        member.sent_ns["lease"] = now_ns
        member.granted_until_ns = now_ns + self._timing.lease_ns
        self._send(
            member,
            Lease(
                run_id=self._setup.run_id,
                incarnation=member.incarnation,
                attempt=self._attempt,
                sent_ns=now_ns,
                until_ns=member.granted_until_ns + member.clock.offset_ns,
            ),
        )

    def _send_stop(self, member: Member, reason: str) -> None:
        self._send(
            member,
            Stop(
                run_id=self._setup.run_id,
                incarnation=member.incarnation,
                grace_ns=self._plan.grace_ns,
                reason=reason[:1000],
            ),
        )

    def _repeat_lost(self, member: Member, now_ns: int) -> None:
        """A member that was given up and is heard again hands over what it has, and ends."""
        is_back = member.lost_ns is not None and member.heard_ns > member.lost_ns
        if is_back and member.is_due("stop", self._timing.repeat_ns, now_ns):
            if member.has_handed_over or self._phase >= RunPhase.LINGERING:
                self._quit(member, now_ns)
            else:
                self._send_stop(member, "the master had given this agent up")

    def _quit(self, member: Member, now_ns: int) -> None:
        if member.has_quit or not member.is_due("quit", self._timing.beat_ns, now_ns):
            return
        reason = "the run is over" if self._end is None else self._end.reason
        self._send(
            member,
            Quit(run_id=self._setup.run_id, incarnation=member.incarnation, reason=reason[:1000]),
        )

    # ---- windows --------------------------------------------------------------------

    def _release(self) -> None:
        """Release labels that every member from whom more is to come has passed."""
        waiting = [member for member in self._members.values() if member.is_working]
        if self._phase not in (RunPhase.RUNNING, RunPhase.STOPPING) or not waiting:
            return
        marks = [member.complete_through_s for member in waiting]
        known = [mark for mark in marks if mark is not None]
        if len(known) == len(marks):
            self._hand_out(min(known))

    def _release_all(self) -> None:
        self._hand_out(None)

    def _hand_out(self, through_s: int | None) -> None:
        for window, is_late in self._assembly.release(through_s):
            self._actions.append(Release(window=window, is_late=is_late))
            if is_late or self._phase is not RunPhase.RUNNING:
                continue
            for guard in self._guards:
                reason = guard.observe(window)
                if reason is not None and self._tick_ns is not None:
                    self._stop(EndCause.GUARD, reason, self._tick_ns)
