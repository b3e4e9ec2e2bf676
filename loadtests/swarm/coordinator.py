"""The master's state machine: membership, barrier, T0, leases, merge, loss policy, end.

Pure: messages, ticks and times go in, actions come out; no clock, no socket, no thread.
Whatever is not confirmed is said again, whatever was said before changes nothing.

Laws: membership is frozen at the barrier with exactly N agents; load begins only when all
have confirmed the same T0; a batch is acknowledged only after its `Journal`; a share is
taken over only when its old holder cannot send any more; a run with a loss says so.

Longer than the other modules: it is one transition system. What is not transition is
elsewhere: lobby, roster, ledgers, leases, accounts, guards, outbox.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.model import LoadModel, LossPolicy
from loadtests.record.manifest import Outcome
from loadtests.record.window import Window
from loadtests.swarm.accounting import Account, Books, build_account
from loadtests.swarm.actions import Barrier, Finished, MasterAction, Remember
from loadtests.swarm.guards import build_guards
from loadtests.swarm.holdings import Holding, Loss, PlannedCount
from loadtests.swarm.lobby import Lobby
from loadtests.swarm.membership import Member, Standing
from loadtests.swarm.merge import Assembly, LedgerError
from loadtests.swarm.messages import (
    AgentPhase,
    EnginePhase,
    EngineState,
    Hello,
    Pong,
    Snapshot,
    ToMaster,
)
from loadtests.swarm.outbox import Outbox
from loadtests.swarm.recollection import (
    BatchNote,
    Checkpoint,
    build_checkpoint,
    restored_holdings,
    restored_members,
)
from loadtests.swarm.roster import Roster
from loadtests.swarm.run_state import AgentStatus, End, EndCause, RunPhase, RunSetup, Status
from loadtests.swarm.timing import Timing

_START_PATIENCE: Final = 4  # before load runs, silence may be so many times longer
_PING_BUDGET_NS: Final = NS_PER_S // 1000  # of the master, for each repeated ping
_RECALL_HOLD_S: Final = 60  # agents' windows of a second lie within less in a journal
_CAUSES: Final = {"target": EndCause.TARGET, "scenario": EndCause.SCENARIO}
_OUTCOMES: Final = {EndCause.PLAN: Outcome.COMPLETE, EndCause.HARNESS: Outcome.CRASHED}


class Coordinator:
    """One run. Every method returns actions that the caller carries out in order."""

    def __init__(self, *, setup: RunSetup, timing: Timing, planned: PlannedCount) -> None:
        self._setup, self._timing, self._planned = setup, timing, planned
        self._plan = setup.plan
        self._phase = RunPhase.GATHERING
        self._out = Outbox(setup, timing)
        self._members: dict[str, Member] = {}  # by incarnation
        self._lobby = Lobby(setup, self._members, self._out, timing.repeat_ns)
        self._roster = Roster(self._members, setup.plan.slots)
        self._assembly = Assembly()
        self._guards = build_guards(setup.plan)
        self._attempt = 0
        self._t0_ns: int | None = None
        self._phase_since_ns: int | None = None
        self._tick_ns: int | None = None
        self._end: End | None = None
        self._is_changed = False  # since the last `Remember`

    # ---- taking over from a master that died ----------------------------------------

    def resume(self, checkpoint: Checkpoint, *, now_ns: int, granted_until_ns: int) -> None:
        """Take the state of a master that died; nobody holds a lease beyond `granted_until_ns`.

        Call it first, then `recall` for every batch of the journal, oldest first.
        """
        self._members.update(
            restored_members(
                checkpoint,
                self._plan.slots,
                heard_ns=now_ns,
                granted_until_ns=granted_until_ns,
            )
        )
        self._roster.holdings.update(restored_holdings(checkpoint))
        self._attempt, self._t0_ns = checkpoint.attempt, checkpoint.t0_ns
        self._tick_ns = now_ns
        self._enter(RunPhase.RUNNING, now_ns)
        if checkpoint.end is not None:
            self._end = self._ending(checkpoint.end.cause, checkpoint.end.reason, now_ns)
            self._end = replace(self._end, at_ns=checkpoint.end.at_ns)
            self._enter(RunPhase.STOPPING, now_ns)

    def recall(self, source: str, window: Window, note: BatchNote) -> list[MasterAction]:
        """Take a batch that is in the journal; LedgerError when it does not follow."""
        member = self._members.get(source.rpartition("@")[2])
        if member is None:
            raise LedgerError("batch_foreign", f"{source} has no part in this run")
        member.ledger.admit(note.number, window, note.progress)
        self._assembly.add(window)
        self._hand_out(window.start_s - _RECALL_HOLD_S)
        return self._out.take()

    def tell_outage(self, text: str, now_ns: int) -> list[MasterAction]:
        """Record that another master has taken over."""
        self._out.tell("master_resumed", "master", text, now_ns)
        return self._out.take()

    def close_books(self, cause: EndCause, reason: str, died_ns: int) -> list[MasterAction]:
        """End a run whose agents are gone, too: everything of theirs that is missing is lost."""
        missing = [member for member in self._members.values() if member.is_working]
        if missing or self._end is None:
            self._stop(cause, reason, died_ns)
        for member in missing:
            self._lose(member, "its master died", died_ns)
        for member in self._members.values():
            member.has_quit = True
        while self._phase is not RunPhase.ENDED:
            self._advance(died_ns)
        return self._out.take()

    # ---- inputs ---------------------------------------------------------------------

    def receive(self, peer: str, message: ToMaster, now_ns: int) -> list[MasterAction]:
        """Take a decoded message; `peer` is the transport's name for its sender."""
        if self._phase is RunPhase.ENDED:
            return []
        if isinstance(message, Hello):
            is_frozen = self._phase is not RunPhase.GATHERING
            joined = self._lobby.hello(peer, message, now_ns, is_frozen=is_frozen)
            if joined is not None:
                self._repeat(joined, now_ns)
        else:
            member = self._members.get(message.incarnation)
            if member is None or member.agent != message.agent:
                text = f"{message.agent} of run {message.run_id} has no part in this run"
                self._lobby.refuse(peer, message.incarnation, message.agent, text, now_ns)
            elif member.peer != peer or message.run_id != self._setup.run_id:
                self._out.noise("message_foreign", peer, f"claims to be {message.agent}", now_ns)
            elif isinstance(message, Pong):
                self._pong(member, message, now_ns)
            else:
                self._snapshot(member, message, now_ns)
        if self._phase is not RunPhase.GATHERING:  # the barrier visits everybody: once a tick
            self._advance(now_ns)
        return self._turn()

    def malformed(self, peer: str, error: str, now_ns: int) -> list[MasterAction]:
        """Count bytes that `decode_to_master` refused."""
        if self._phase is not RunPhase.ENDED:
            self._out.noise("message_malformed", peer, error, now_ns)
        return self._out.take()

    def left(self, peer: str, now_ns: int) -> list[MasterAction]:
        """The transport says that a peer is gone for good (quit, connection closed)."""
        for member in [m for m in self._members.values() if m.peer == peer]:
            member.has_quit = True
            if member.is_working and self._phase < RunPhase.LINGERING:
                self._lose(member, "left", now_ns)
        self._advance(now_ns)
        return self._turn()

    def request_stop(self, reason: str, now_ns: int) -> list[MasterAction]:
        """End gracefully on the user's wish; further calls change nothing."""
        self._stop(EndCause.USER, reason, now_ns)
        self._advance(now_ns)
        return self._turn()

    def tick(self, now_ns: int) -> list[MasterAction]:
        """Call about every 100 ms: renews, repeats, notices silence, releases windows."""
        if self._phase is RunPhase.ENDED:
            return []
        if self._phase_since_ns is None:
            self._phase_since_ns = now_ns
        self._forgive_stall(now_ns)
        self._notice_silence(now_ns)
        self._release()
        is_running = self._phase is RunPhase.RUNNING
        pinged_ns, renewed_ns = now_ns - self._timing.drift_ns, now_ns - self._timing.renew_ns
        for member in self._members.values():
            if not (is_running and member.is_settled(pinged_ns, renewed_ns)):
                self._repeat(member, now_ns)
        self._advance(now_ns)
        return self._turn()

    def status(self, now_ns: int) -> Status:
        """Figures for a progress display."""
        return Status(
            phase=self._phase,
            agents_joined=len(self._members),
            agents_alive=sum(member.is_alive for member in self._members.values()),
            engines=sum(member.hello.engines for member in self._members.values()),
            engines_alive=len(self._roster.living()),
            elapsed_ns=None if self._t0_ns is None else now_ns - self._t0_ns,
            t0_ns=self._t0_ns,
            events=self._out.chronicle.count,
            stop_reason=None if self._end is None else self._end.reason,
        )

    def agents(self, now_ns: int) -> list[AgentStatus]:
        """How each agent stands, by name."""
        return [
            member.status(now_ns, self._timing.lease_ns)
            for member in sorted(self._members.values(), key=lambda member: member.agent)
        ]

    def account(self) -> Account:
        """The books as they stand; final after `Finished`."""
        end_ns = self._plan.duration_ns
        if self._end is not None and self._t0_ns is not None:
            end_ns = min(end_ns, max(0, self._end.at_ns - self._t0_ns))
        return build_account(
            Books(
                members=tuple(sorted(self._members.values(), key=lambda m: m.first_index)),
                holdings=self._roster.holdings,
                archived=self._assembly.totals,
                t0_unix_ns=self._t0_unix_ns(),
                end_ns=end_ns,
                went_to_plan_end=self._end is not None and end_ns == self._plan.duration_ns,
                is_open_load=self._plan.load_model is LoadModel.OPEN,
                planned=self._planned,
                master_wall_ns=self._setup.unix_minus_monotonic_ns,
                noise=self._out.chronicle.warnings(),
            )
        )

    # ---- small parts ----------------------------------------------------------------

    def _turn(self) -> list[MasterAction]:
        """What is to be done now; first of all, to remember what has changed under load."""
        if self._is_changed and self._t0_ns is not None and self._phase >= RunPhase.RUNNING:
            checkpoint = build_checkpoint(
                attempt=self._attempt,
                t0_ns=self._t0_ns,
                members=self._members.values(),
                holdings=self._roster.holdings.values(),
                end=self._end,
            )
            self._out.add(Remember(checkpoint=checkpoint))
            self._is_changed = False
        return self._out.take()

    def _ending(self, cause: EndCause, reason: str, now_ns: int) -> End:
        margin_ns = self._plan.grace_ns + self._timing.drain_margin_ns
        return End(cause=cause, reason=reason, at_ns=now_ns, deadline_ns=now_ns + margin_ns)

    def _enter(self, phase: RunPhase, now_ns: int) -> None:
        self._phase, self._phase_since_ns = phase, now_ns

    def _alive(self) -> list[Member]:
        return [member for member in self._members.values() if member.is_alive]

    def _t0_unix_ns(self) -> int | None:
        return None if self._t0_ns is None else self._t0_ns + self._setup.unix_minus_monotonic_ns

    @property
    def _is_natural(self) -> bool:
        """Nobody and nothing has ended the run before its plan does."""
        return self._end is None or self._end.is_natural

    def _offset_ns(self, now_ns: int) -> int:
        assert self._t0_ns is not None, "there is no load before T0"
        return now_ns - self._t0_ns

    def _silence_ns(self) -> int:
        is_starting = self._phase < RunPhase.RUNNING
        return self._timing.silence_ns * (_START_PATIENCE if is_starting else 1)

    def _forgive_stall(self, now_ns: int) -> None:
        """After a stall of our own, nobody else is late: all times run from now on again."""
        gap_ns = 0 if self._tick_ns is None else now_ns - self._tick_ns
        self._tick_ns = now_ns
        if gap_ns <= self._timing.stall_ns:
            return
        text = f"stood still for {gap_ns / NS_PER_S:.1f} s"
        self._out.tell("master_stalled", "master", text, now_ns)
        for member in self._members.values():
            member.heard_ns = min(now_ns, member.heard_ns + gap_ns)
        if self._phase_since_ns is not None:
            self._phase_since_ns = min(now_ns, self._phase_since_ns + gap_ns)
        if self._end is not None:
            self._end = replace(self._end, deadline_ns=self._end.deadline_ns + gap_ns)

    def _notice_silence(self, now_ns: int) -> None:
        """Give up members that are silent, or late with their FINAL."""
        is_over = self._end is not None and now_ns > self._end.deadline_ns
        since_ns = now_ns - self._silence_ns()
        for member in list(self._members.values()):
            if member.heard_ns >= since_ns and not is_over:
                continue  # nearly always: 1,000 members are looked at ten times a second
            if self._phase >= RunPhase.LINGERING or not member.is_working:
                continue
            silent_ns = now_ns - member.heard_ns
            if silent_ns > self._silence_ns():
                self._lose(member, f"silent for {silent_ns / NS_PER_S:.1f} s", now_ns)
            elif self._end is not None and now_ns > self._end.deadline_ns:
                self._lose(member, "no FINAL in time", now_ns)

    # ---- what members say -----------------------------------------------------------

    def _pong(self, member: Member, pong: Pong, now_ns: int) -> None:
        wall_ns = pong.unix_ns - pong.replied_ns
        is_sound = member.clock.add(
            pong.sent_ns, pong.received_ns, pong.replied_ns, now_ns, wall_ns
        )
        if not is_sound:
            self._out.noise("message_impossible", member.agent, "a pong before its ping", now_ns)
            return
        member.heard_ns = max(member.heard_ns, pong.sent_ns)  # it lived when the ping came
        if self._phase is RunPhase.GATHERING and member.clock.rounds < self._timing.clock_rounds:
            self._out.ping(member, now_ns)

    def _snapshot(self, member: Member, snapshot: Snapshot, now_ns: int) -> None:
        if snapshot.plan_sha256 != self._out.sha256:
            self._out.noise("plan_differs", member.agent, f"plan {snapshot.plan_sha256}", now_ns)
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
        for batch in snapshot.batches:
            try:
                window = member.ledger.take(batch)
            except LedgerError as error:
                self._out.noise(error.kind, member.agent, str(error), now_ns)
                break
            if window is not None:
                self._out.journal(member, window, batch)
                self._assembly.add(window)
        if snapshot.batches:
            member.note_watermark()
            attempt = self._attempt if self._may_send(member) else None
            self._out.acknowledge(member, attempt, now_ns)

    def _tell_back(self, member: Member, now_ns: int) -> None:
        if "back" not in member.sent_ns:
            member.sent_ns["back"] = now_ns
            text = "was given up and is heard again: what it hands over counts, it gets no lease"
            self._out.tell("agent_back", member.agent, text, now_ns)

    def _engine_state(self, member: Member, state: EngineState, now_ns: int) -> None:
        holding = self._roster.holding(member, state.index)
        if holding is None:
            self._out.noise("engine_foreign", member.agent, f"names engine {state.index}", now_ns)
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
        return self._is_natural and last_ns < self._plan.duration_ns

    # ---- losses ---------------------------------------------------------------------

    def _lose(self, member: Member, how: str, now_ns: int) -> None:
        """Give a member up."""
        member.standing, member.lost_ns = Standing.LOST, now_ns
        self._is_changed = True
        self._out.tell("agent_lost", member.agent, how, now_ns)
        if self._phase is RunPhase.GATHERING:
            del self._members[member.incarnation]  # another one may take its place
            return
        if self._phase < RunPhase.RUNNING:
            self._stop(EndCause.HARNESS, f"{member.agent} was lost at the start: {how}", now_ns)
            return
        # Its engines may still be sending, out of our sight, until their lease has ended.
        free_ns = max(now_ns, (member.granted_until_ns or now_ns) + self._timing.lease_margin_ns)
        last_ns = self._offset_ns(min(member.heard_ns, now_ns))
        held = self._roster.not_lost(member)
        self._lose_engines(held, f"{member.agent}: {how}", last_ns, free_ns, now_ns)

    def _lose_engines(
        self, lost: list[Holding], how: str, last_ns: int, free_ns: int, now_ns: int
    ) -> None:
        """Apply the loss policy; nobody sends the shares from `free_ns` (master's clock) on."""
        free_offset_ns = min(self._plan.duration_ns, self._offset_ns(free_ns))
        self._is_changed = True
        for holding in lost:
            holding.loss = Loss(how=how, last_ns=last_ns, free_ns=free_offset_ns, cut_ns=None)
            self._out.tell("engine_lost", holding.engine, how, now_ns)
        is_running = self._phase is RunPhase.RUNNING
        is_draining = self._end is not None and self._end.is_natural
        if not lost or not (is_running or is_draining):
            return
        names = ", ".join(holding.engine for holding in lost)
        if self._plan.loss_policy is LossPolicy.ABORT:
            self._stop(EndCause.LOSS, f"lost {names}: {how}", now_ns)
        elif is_running and not self._roster.living():
            self._stop(EndCause.LOSS, f"no engine is left: lost {names}: {how}", now_ns)
        elif is_running and self._plan.loss_policy is LossPolicy.REDISTRIBUTE:
            self._redistribute(lost, free_ns, now_ns)

    def _redistribute(self, lost: list[Holding], free_ns: int, now_ns: int) -> None:
        """Divide the shares between the survivors, from a whole second on."""
        earliest_ns = self._offset_ns(max(free_ns, now_ns + self._timing.takeover_ns))
        cut_ns = max(0, -(-earliest_ns // NS_PER_S)) * NS_PER_S
        if cut_ns >= self._plan.duration_ns:
            return
        for member in self._roster.redistribute(lost, cut_ns):
            self._out.take_over(member, now_ns)
        for holding in lost:
            text = f"the survivors take over from second {cut_ns // NS_PER_S}"
            self._out.tell("takeover", holding.engine, text, now_ns)

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
        if len(members) == self._setup.agents and all(
            member.phase is AgentPhase.CHECKED and member.clock.rounds >= self._timing.clock_rounds
            for member in members
        ):
            self._freeze(now_ns)
            return
        since_ns = now_ns if self._phase_since_ns is None else self._phase_since_ns
        if now_ns - since_ns > self._setup.join_wait_ns:
            names = ", ".join(sorted(m.agent for m in members)) or "none"
            reason = f"expected {self._setup.agents} agents; came and were checked: {names}"
            self._stop(EndCause.HARNESS, reason, now_ns)

    def _freeze(self, now_ns: int) -> None:
        """Pass the barrier: from now on nobody joins."""
        self._roster.freeze()
        text = f"{len(self._members)} agents with {len(self._roster.holdings)} engines"
        self._out.tell("barrier_passed", "master", text, now_ns)
        self._enter(RunPhase.SPAWNING, now_ns)

    def _advance_spawning(self, now_ns: int) -> None:
        if all(member.phase >= AgentPhase.READY for member in self._members.values()):
            self._enter(RunPhase.ARMING, now_ns)
            self._propose_t0(now_ns)
            return
        connecting_ns = int(self._plan.all_connections / self._plan.connects_per_s * NS_PER_S)
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
        self._out.tell(kind, "master", f"T0 is unix second {t0_unix_ns // NS_PER_S}", now_ns)
        self._out.add(Barrier(t0_unix_ns=t0_unix_ns, t0_ns=self._t0_ns))
        for member in self._alive():
            member.sent_ns.pop("begin", None)

    def _advance_arming(self, now_ns: int) -> None:
        assert self._t0_ns is not None, "entering this phase proposed one"
        if all(m.snapshot and m.snapshot.attempt == self._attempt for m in self._members.values()):
            self._enter(RunPhase.RUNNING, now_ns)
            self._is_changed = True
            self._out.tell("load_confirmed", "master", "all agents have confirmed T0", now_ns)
            for member in self._alive():
                self._out.renew(member, self._attempt, now_ns)
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
            self._end = self._ending(EndCause.PLAN, "the last stage is over", now_ns)
            self._enter(RunPhase.STOPPING, now_ns)
        # No list of the living: this is asked after every message.
        members = self._members.values()
        if self._phase is RunPhase.STOPPING and not any(m.is_working for m in members):
            self._judge_end()
            self._linger(now_ns)

    def _judge_end(self) -> None:
        """Under `abort`, a run whose engines fell short of their shares is not complete."""
        assert self._end is not None, "this phase has an end"
        is_strict = self._plan.loss_policy is LossPolicy.ABORT
        if not self._end.is_natural or not is_strict:
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
        if not self._is_natural:
            return
        self._end = self._ending(cause, reason, now_ns)
        self._is_changed = True
        self._out.tell("stopping", "master", f"{cause.value}: {reason}", now_ns)
        if self._phase < RunPhase.RUNNING:
            self._linger(now_ns)
            return
        self._enter(RunPhase.STOPPING, now_ns)
        for member in self._alive():
            member.sent_ns.pop("stop", None)
            self._repeat_load(member, now_ns)

    def _linger(self, now_ns: int) -> None:
        self._release_all()
        self._is_changed = True  # every FINAL is in: who takes over now needs no agent
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
        outcome = _OUTCOMES.get(self._end.cause, Outcome.ABORTED)
        self._out.tell("finished", "master", f"{outcome.value}: {self._end.reason}", now_ns)
        self._out.finish(Finished(outcome=outcome, cause=self._end.cause, reason=self._end.reason))
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
            self._out.prepare(member)
        is_measured = member.clock.rounds >= timing.clock_rounds
        # A pong asks for the next ping; this repeats lost ones, and the more agents there are,
        # the later: else the repeats for 1,000 of them outrun their answers and nobody is heard.
        repeat_ns = max(timing.clock_round_ns, len(self._members) * _PING_BUDGET_NS)
        every_ns = timing.repeat_ns if is_measured else min(timing.repeat_ns, repeat_ns)
        if member.is_due("ping", every_ns, now_ns):
            self._out.ping(member, now_ns)

    def _repeat_spawning(self, member: Member, now_ns: int) -> None:
        is_assigned = member.phase >= AgentPhase.SPAWNING
        if not is_assigned and member.is_due("assign", self._timing.urgent_ns, now_ns):
            self._out.assign(member, len(self._roster.holdings))
        if member.is_due("ping", self._timing.repeat_ns, now_ns):
            self._out.ping(member, now_ns)

    def _repeat_arming(self, member: Member, now_ns: int) -> None:
        assert self._t0_ns is not None, "this phase has a T0"
        is_told = member.snapshot is not None and member.snapshot.attempt == self._attempt
        if not is_told and member.is_due("begin", self._timing.urgent_ns, now_ns):
            self._out.begin(member, self._attempt, self._t0_ns)
        if member.is_due("ping", self._timing.repeat_ns, now_ns):
            self._out.ping(member, now_ns)

    def _may_send(self, member: Member) -> bool:
        """Tell whether a member is to send load: then its lease is renewed."""
        is_loading = self._phase in (RunPhase.RUNNING, RunPhase.STOPPING)
        return is_loading and self._is_natural and member.is_working

    def _repeat_load(self, member: Member, now_ns: int) -> None:
        if not member.is_working:
            return  # its FINAL is in; Quit follows when everybody's is
        if self._end is None or self._end.is_natural:
            if member.is_due("ping", self._timing.drift_ns, now_ns):
                self._out.ping(member, now_ns)
            if member.is_due("lease", self._timing.renew_ns, now_ns):
                self._out.renew(member, self._attempt, now_ns)
            taken = 0 if member.snapshot is None else member.snapshot.takeovers
            if len(member.takeovers) > taken and member.is_due(
                "take_over", self._timing.repeat_ns, now_ns
            ):
                self._out.take_over(member, now_ns)
            return
        if member.is_due("stop", self._timing.repeat_ns, now_ns):
            self._out.stop(member, self._end.reason)
            self._out.ping(member, now_ns)

    def _repeat_lost(self, member: Member, now_ns: int) -> None:
        """A member that was given up and is heard again hands over what it has, and ends."""
        is_back = member.lost_ns is not None and member.heard_ns > member.lost_ns
        if is_back and member.is_due("stop", self._timing.repeat_ns, now_ns):
            if member.has_handed_over or self._phase >= RunPhase.LINGERING:
                self._quit(member, now_ns)
            else:
                self._out.stop(member, "the master had given this agent up")

    def _quit(self, member: Member, now_ns: int) -> None:
        reason = "the run is over" if self._end is None else self._end.reason
        self._out.quit(member, reason, now_ns)

    # ---- windows --------------------------------------------------------------------

    def _release(self) -> None:
        """Release labels that every member from whom more is to come has passed."""
        if self._phase not in (RunPhase.RUNNING, RunPhase.STOPPING):
            return
        released_s, lowest_s = self._assembly.released_through_s or 0, None
        for member in self._members.values():
            if not member.is_working:
                continue
            mark_s = member.complete_through_s
            if mark_s is None or mark_s <= released_s:
                return  # one of 1,000 is behind nearly always: the rest need not be asked
            lowest_s = mark_s if lowest_s is None else min(lowest_s, mark_s)
        if lowest_s is not None:
            self._hand_out(lowest_s)

    def _release_all(self) -> None:
        self._hand_out(None)

    def _hand_out(self, through_s: int | None) -> None:
        for window, is_late in self._assembly.release(through_s):
            self._out.release(window, is_late=is_late)
            if is_late or self._phase is not RunPhase.RUNNING:
                continue
            for guard in self._guards:
                reason = guard.observe(window)
                if reason is not None and self._tick_ns is not None:
                    self._stop(EndCause.GUARD, reason, self._tick_ns)
