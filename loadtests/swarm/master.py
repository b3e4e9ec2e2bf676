"""The master's I/O: feeds its state machine (`coordinator.py`) and carries out what it asks.

One loop owns coordinator and archive. The bus only puts what arrived, stamped, into its
inbox. What a turn of the loop has to journal is written at once and before anything else:
that is the promise, a window is in the journal before its acknowledgement leaves. When the
journal cannot be written, nothing is acknowledged any more, load is stopped, the partial
archive is kept and a HarnessError says why. Locust's statistics and states are a view that
this loop feeds. Longer than most modules because every action of the coordinator is carried
out here, in one order.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event as Signal
from locust.runners import (
    HEARTBEAT_LIVENESS,
    STATE_STOPPED,
    STATE_STOPPING,
    MasterRunner,
    WorkerNode,
)

from loadtests.clock import NS_PER_S
from loadtests.errors import HarnessError
from loadtests.plan.codec import encode_plan
from loadtests.plan.model import Plan
from loadtests.plan.schedule import Schedule
from loadtests.record.archive import ArchiveWriter, create_archive, reopen_archive
from loadtests.record.event import Event
from loadtests.record.facts import code_digests, package_versions
from loadtests.record.manifest import Outcome
from loadtests.record.stop_file import KillSwitch, take_stop_request
from loadtests.swarm import actions
from loadtests.swarm.actions import Finished, MasterAction
from loadtests.swarm.agent_shell import boot_id
from loadtests.swarm.books import draft_manifest, finished_manifest, with_account
from loadtests.swarm.bus import MESSAGE
from loadtests.swarm.coordinator import Coordinator
from loadtests.swarm.fault_desk import FaultDesk
from loadtests.swarm.live import Judged, LiveDocument
from loadtests.swarm.live_desk import LiveDesk
from loadtests.swarm.local_agents import LocalAgents
from loadtests.swarm.messages import Ack, Hello, MessageError, decode_to_master, encode_message
from loadtests.swarm.metrics import RunSums
from loadtests.swarm.metrics_page import MetricsPage
from loadtests.swarm.progress import Progress, ProgressBoard
from loadtests.swarm.recollection import Anchor, cleaned, encode_frame, encode_note
from loadtests.swarm.refusals import REFUSALS
from loadtests.swarm.resumption import Found, RunOutcome, recall
from loadtests.swarm.run_log import log_event, name_run
from loadtests.swarm.run_state import EndCause, RunPhase, RunSetup, RunView
from loadtests.swarm.scraper import ScraperProcess
from loadtests.swarm.sockets import is_secured
from loadtests.swarm.target import fetch_version
from loadtests.swarm.timing import Timing
from loadtests.swarm.view import StatsView

TICK_S: Final = 0.1
PROGRESS_S: Final = 0.5
MAX_INBOX: Final = 10_000  # messages repeat themselves: what does not fit is not lost for good
_AFTER_DISK_ERROR_S: Final = 3.0  # beyond the grace, for agents to end their load
_GOODBYE_S: Final = 3.0  # for local agents to end by themselves
_OF_ACCOUNT: Final = frozenset({"agent_lost", "engine_lost", "takeover"})  # events that change it


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run, and with whom; `start_agents` starts those that belong to this master.

    `found` is what another master left of the run that is to be taken up; None for a new one.
    """

    plan: Plan
    results: Path
    bind: tuple[str, int]  # where agents connect; port 0 where they are this master's children
    agents: int
    join_wait_ns: int
    command: tuple[str, ...]
    on_progress: Callable[[Progress], None]
    start_agents: Callable[[], LocalAgents] | None
    users: int  # Locust users to show as running
    authorised_hosts: tuple[str, ...]  # besides loopback; agents have lists of their own
    user_code: Mapping[str, str] = field(default_factory=dict)  # digests, besides this package's
    found: Found | None = None
    live_judge: str | None = None  # module that judges as it goes; None: nobody watches
    has_metrics: bool = False  # somebody may ask for `metrics_page`


class MasterShell:
    """One run on a guarded Locust master; `run` blocks the calling greenlet until its end."""

    def __init__(
        self, runner: MasterRunner, order: Order, locust_start: Callable[..., None]
    ) -> None:
        self._runner = runner
        self._order = order
        self._locust_start = locust_start
        self._inbox: deque[tuple[str, object, int]] = deque()
        self._woken = Signal()
        self._peers: dict[str, str] = {}  # agent name -> transport peer
        self._incarnations: dict[str, str] = {}  # transport peer -> who first spoke as it
        self._contested: set[str] = set()  # peers as whom more than one process has spoken
        self._stop_reason: str | None = None
        self._at_once: str | None = None
        self._disk_error: HarnessError | None = None
        self._finished: Finished | None = None
        self._view: StatsView | None = None
        self._local: LocalAgents | None = None
        self._refused_before = Counter(REFUSALS.counts)
        self._kill_switch = KillSwitch(order.results)
        self._faults = FaultDesk(order.plan)
        self._scraper: ScraperProcess | None = None
        self._plan_bytes = encode_plan(order.plan)
        self._sums = RunSums(order.plan)
        self._live = LiveDesk(order.plan, self._plan_bytes, order.live_judge)
        self._is_account_due = False
        self._page: MetricsPage | None = None  # set when all that it looks at is there
        self._archive: ArchiveWriter
        self._coordinator: Coordinator

    def request_stop(self, reason: str) -> None:
        """End the run gracefully: drain, hand over, archive. What any stop button calls."""
        if self._stop_reason is None:
            self._stop_reason = reason
            self._woken.set()

    def stop_at_once(self, reason: str) -> None:
        """End the run now; what was handed over stays in a partial archive."""
        self._at_once = self._at_once or reason
        if self._finished is not None and self._local is not None:
            self._local.kill()  # the archive is written: only the goodbye is cut short
        self._woken.set()

    def metrics_page(self) -> MetricsPage | None:
        """What Prometheus is told; None before the run has an archive."""
        return self._page

    @property
    def is_stopping(self) -> bool:
        """Whether the run has begun to stop, on anybody's wish or by itself."""
        return self._stop_reason is not None or (
            self._page is not None and self._look().status.phase >= RunPhase.STOPPING
        )

    def live_document(self, *, request: int | None, is_read_only: bool) -> LiveDocument | None:
        """What the live page shows, of one request (its number) or of all."""
        if self._page is None:
            return None
        return self._live.document(self._look(), request=request, is_read_only=is_read_only)

    def live_verdict(self) -> Judged:
        """The newest provisional verdict."""
        return self._live.verdict()

    def conclude(self, note: str) -> None:
        """Have the live page say what became of the run."""
        self._live.conclude(note)

    def run(self) -> RunOutcome:
        """Run the plan; HarnessError when the archive cannot be written or agents die early."""
        try:
            self._faults.open()
            self._prepare()
        except BaseException:
            self._faults.abandon()
            raise
        try:
            if self._order.start_agents is not None:
                self._local = self._order.start_agents()
            self._loop()
            return self._finish()
        except BaseException as error:
            self._archive.abandon(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._runner.custom_messages.pop(MESSAGE, None)
            self._faults.abandon()
            self._set_state(STATE_STOPPED)
            if self._scraper is not None:
                self._scraper.end()
            self._live.end()
            if self._local is not None:
                # Before T0 nobody has anything to hand over, and may not have joined yet.
                is_orderly = self._finished and self._draft.t0_unix_ns is not None
                self._local.end(_GOODBYE_S if is_orderly else 0.0)

    def _prepare(self) -> None:
        found = self._order.found
        if found is None:
            self._begin()
        else:
            self._to_unix_ns = found.anchor.unix_minus_monotonic_ns
            self._archive, _ = reopen_archive(found.path)
            self._draft = msgspec.structs.replace(
                self._archive.manifest, warnings=found.anchor.warnings
            )
            self._coordinator = found.coordinator()
        name_run(self._draft.run_id)
        self._board = ProgressBoard(self._draft.run_id, self._order.plan, self._order.agents)
        self._live.open(self._draft, self._sums)
        self._page = MetricsPage(self._order.plan, self._draft.run_id, self._sums, self._look)
        self._runner.register_message(MESSAGE, self._on_message)
        if found is not None:
            self._take_up(found)

    def _begin(self) -> None:
        plan = self._order.plan
        self._to_unix_ns = time.time_ns() - time.monotonic_ns()
        target_version, warnings = fetch_version(plan, self._order.authorised_hosts)
        self._draft = draft_manifest(
            plan,
            self._plan_bytes,
            command=self._order.command,
            target_version=target_version,
            warnings=warnings,
        )
        self._archive = create_archive(self._order.results, self._draft, self._plan_bytes)
        host, port = self._order.bind
        anchor = Anchor(
            boot_id=boot_id(),
            unix_minus_monotonic_ns=self._to_unix_ns,
            agents=self._order.agents,
            host=host,
            port=port,
            warnings=self._archive.manifest.warnings,
        )
        self._archive.journal(encode_frame(anchor))
        self._coordinator = Coordinator(
            setup=RunSetup(
                run_id=self._draft.run_id,
                plan=plan,
                plan_bytes=self._plan_bytes,
                agents=self._order.agents,
                version=package_versions()["headroom"],
                code={**code_digests(), **self._order.user_code},
                is_named_by_key=is_secured(self._runner),
                boot_id=boot_id(),
                unix_minus_monotonic_ns=self._to_unix_ns,
                join_wait_ns=self._order.join_wait_ns,
            ),
            timing=Timing(),
            planned=Schedule(plan).planned,
        )

    def _take_up(self, found: Found) -> None:
        """Go on with the members of a master that died: they try the same address again."""
        assert found.checkpoint is not None, "without one nobody can go on"
        now_ns = time.monotonic_ns()
        # The longest that the dead one can have granted ends a lease after it was seen dead.
        until_ns = now_ns + Timing().lease_ns
        self._coordinator.resume(found.checkpoint, now_ns=now_ns, granted_until_ns=until_ns)
        for member in found.checkpoint.members:
            self._peers[member.hello.agent] = member.peer
            self._incarnations[member.peer] = member.hello.incarnation
            # Locust tells a worker that it does not know to quit.
            self._runner.clients[member.peer] = WorkerNode(
                member.peer, heartbeat_liveness=HEARTBEAT_LIVENESS
            )
        recall(found, self._archive, self._coordinator, self._carry_out)
        away_s = (now_ns - found.died_ns) / NS_PER_S
        text = f"took the run up {away_s:.1f} s after the last sign of the master before"
        self._carry_out(self._coordinator.tell_outage(text, now_ns))
        self._start_scraper()

    def _look(self) -> RunView:
        now_ns = time.monotonic_ns()
        status = self._coordinator.status(now_ns)
        return RunView(
            status=status,
            unix_ns=now_ns + self._to_unix_ns,
            stage=self._board.stage_at(status.elapsed_ns),
            agents=self._coordinator.agents(now_ns),
            refused=REFUSALS.counts,
        )

    def _on_message(self, environment: Any, msg: Any) -> None:
        del environment
        if len(self._inbox) >= MAX_INBOX:
            REFUSALS.add("inbox full", msg.node_id)
            return
        self._inbox.append((msg.node_id, msg.data, time.monotonic_ns()))
        self._woken.set()

    def _loop(self) -> None:
        next_tick = next_look = time.monotonic()
        while self._finished is None and self._at_once is None and not self._is_given_up():
            self._woken.wait(timeout=max(0.0, next_tick - time.monotonic()))
            self._woken.clear()
            gevent.sleep(0)  # a ready event does not switch: let the bus in
            todo: list[MasterAction] = []
            while self._inbox and time.monotonic() < next_tick:
                todo += self._take(*self._inbox.popleft())
            self._carry_out(todo)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_S
                self._tick()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + PROGRESS_S
                self._order.on_progress(
                    self._board.look(self._coordinator.status(time.monotonic_ns()))
                )
            if self._inbox:
                self._woken.set()

    def _is_given_up(self) -> bool:
        """After a disk error nothing can be acknowledged, so no run can end in order."""
        if self._disk_error is None:
            return False
        grace_s = self._order.plan.grace_ns / NS_PER_S + _AFTER_DISK_ERROR_S
        return time.monotonic() > self._disk_error_at + grace_s

    def _take(self, peer: str, data: object, at_ns: int) -> list[MasterAction]:
        try:
            message = decode_to_master(data)
        except MessageError as error:
            return self._coordinator.malformed(peer, str(error), at_ns)
        if isinstance(message, Hello):
            self._peers[message.agent] = peer
            if self._incarnations.setdefault(peer, message.incarnation) != message.incarnation:
                self._contested.add(peer)
        return self._coordinator.receive(peer, message, at_ns)

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        asked = take_stop_request(self._archive.path)
        if asked is not None:
            self.request_stop(f"stopped by its stop file ({asked or 'no reason given'})")
        asked = self._kill_switch.asked()
        if asked is not None:
            words = asked or "no reason given"
            self.request_stop(f"stopped by the stop file of its results folder ({words})")
        if self._stop_reason is not None:
            self._carry_out(self._coordinator.request_stop(self._stop_reason, now_ns))
            if self._runner.state != STATE_STOPPING:
                self._set_state(STATE_STOPPING)
        if self._local is not None:
            for name, how in self._local.newly_dead().items():
                self._local_agent_died(name, how, now_ns)
        # Of processes with one key Locust cannot tell who has quit: there silence decides.
        connected = self._contested.union(self._runner.clients)
        for peer in [p for p in self._peers.values() if p not in connected]:
            self._peer_left(peer, now_ns)
        self._carry_out(self._coordinator.tick(now_ns))
        halt = self._faults.take(self._tell)
        if halt is not None:
            self.request_stop(halt)
        self._take_scrapes()
        if self._is_account_due:
            self._is_account_due = False
            self._live.account(with_account(self._draft, self._coordinator.account()))

    def _tell(self, event: Event) -> None:
        self._write(actions.Record(event=event))

    def _tell_refusals(self) -> None:
        """How many messages and connections the bus refused during the run, by reason."""
        at_unix_ns = time.monotonic_ns() + self._to_unix_ns
        for reason, count in sorted((REFUSALS.counts - self._refused_before).items()):
            self._tell(
                Event(
                    at_unix_ns=at_unix_ns,
                    kind="bus_refused",
                    who="master",
                    text=f"{count} refused by the control channel: {reason}",
                    fields={"count": count},
                )
            )

    def _start_scraper(self) -> None:
        if self._order.plan.scraping is not None:
            self._scraper = ScraperProcess(
                self._order.plan, self._order.authorised_hosts, self._to_unix_ns
            )

    def _take_scrapes(self) -> None:
        """Archive what the target said of itself; the scraper's end is an event and no more."""
        if self._scraper is None or self._disk_error is not None:
            return
        rows = self._scraper.take()
        self._live.scraped(rows)
        try:
            self._archive.append_server(rows)
        except HarnessError as error:
            self._fail(error)
        how = self._scraper.newly_ended()
        if how is not None:
            at_unix_ns = time.monotonic_ns() + self._to_unix_ns
            text = f"no metrics of the target from now on: {how}"
            event = Event(
                at_unix_ns=at_unix_ns, kind="scraper_lost", who="scraper", text=text, fields={}
            )
            self._tell(event)

    def _peer_left(self, peer: str, now_ns: int) -> None:
        """Locust forgets a worker that said quit, and one it has not heard of for a minute."""
        self._peers = {name: other for name, other in self._peers.items() if other != peer}
        self._carry_out(self._coordinator.left(peer, now_ns))

    def _local_agent_died(self, name: str, how: str, now_ns: int) -> None:
        phase = self._coordinator.status(now_ns).phase
        if phase < RunPhase.ARMING:
            raise HarnessError(where=name, seen=how, expected="an agent that stays until the end")
        if name in self._peers:
            self._peer_left(self._peers[name], now_ns)

    def _carry_out(self, todo: list[MasterAction]) -> None:
        """Journal all that is to be, in one write, and what to remember; then the rest in order."""
        self._journal([action for action in todo if isinstance(action, actions.Journal)])
        for action in todo:
            if isinstance(action, actions.Remember):
                self._remember(action)
        for action in todo:
            match action:
                case actions.Remember():
                    pass  # done
                case actions.Journal(source=source, window=window):
                    self._live.received(source, window)
                case actions.Send(peer=peer, message=message):
                    if self._disk_error is not None and isinstance(message, Ack):
                        continue
                    self._runner.send_message(MESSAGE, encode_message(message), peer)  # type: ignore[arg-type]  # annotated dict, any msgpack value travels
                case actions.Barrier(t0_unix_ns=t0_unix_ns, t0_ns=t0_ns):
                    self._at_barrier(t0_unix_ns)
                    self._faults.begin(t0_ns, t0_unix_ns)
                case actions.Finished():
                    self._finished = action
                case _:
                    self._write(action)

    def _journal(self, received: list[actions.Journal]) -> None:
        if received and self._disk_error is None:
            try:
                self._archive.journal_received(
                    [(r.source, r.window, r.packed, encode_note(r.note)) for r in received]
                )
            except HarnessError as error:
                self._fail(error)

    def _remember(self, action: actions.Remember) -> None:
        if self._disk_error is None:
            try:
                checkpoint = cleaned(action.checkpoint, self._archive.clean)
                self._archive.journal(encode_frame(checkpoint))
            except HarnessError as error:
                self._fail(error)

    def _write(self, action: actions.Release | actions.Record) -> None:
        if isinstance(action, actions.Record):
            self._board.add_event(action.event.text)
            log_event(action.event)
            self._live.told(action.event)
            self._is_account_due |= (
                self._order.live_judge is not None and action.event.kind in _OF_ACCOUNT
            )
        if isinstance(action, actions.Release):
            self._show(action)
            self._faults.see(action.window, is_late=action.is_late)
        if self._disk_error is not None:
            return
        try:
            match action:
                case actions.Release(window=window):
                    self._archive.append_window(window)
                case actions.Record(event=event):
                    self._archive.append_event(event)
        except HarnessError as error:
            self._fail(error)

    def _fail(self, error: HarnessError) -> None:
        self._disk_error = error
        self._disk_error_at = time.monotonic()
        self._archive.abandon(str(error))
        self.request_stop(f"the archive cannot be written: {error}")

    def _at_barrier(self, t0_unix_ns: int) -> None:
        account = self._coordinator.account()
        if self._draft.t0_unix_ns is None:
            gevent.spawn(self._locust_start, self._order.users, self._order.users)
            self._start_scraper()
        self._draft = msgspec.structs.replace(self._draft, t0_unix_ns=t0_unix_ns)
        self._live.account(with_account(self._draft, account))
        if self._disk_error is None:
            try:
                self._archive.update(with_account(self._draft, account))
            except HarnessError as error:
                self._fail(error)

    def _show(self, release: actions.Release) -> None:
        self._board.add_window(release.window)
        if self._order.has_metrics or self._order.live_judge is not None:
            self._sums.add(release.window)
        self._live.released(release.window)
        if self._view is None:  # not before Locust's own start has cleared its statistics
            t0_unix_ns = self._draft.t0_unix_ns or release.window.start_s * NS_PER_S
            self._view = StatsView(
                self._runner.stats,
                self._order.plan.slots,
                self._order.plan.requests,
                t0_unix_ns / NS_PER_S,
            )
        self._view.add(release.window)

    def _set_state(self, state: str) -> None:
        self._runner.update_state(state)
        events: Any = self._runner.environment.events
        hook = events.test_stopping if state == STATE_STOPPING else events.test_stop
        hook.fire(environment=self._runner.environment)

    def _finish(self) -> RunOutcome:
        in_force = self._faults.end(self._tell)
        if self._at_once is not None:
            self._runner.send_message("quit")
            return RunOutcome(
                path=self._archive.abandon(self._at_once, Outcome.ABORTED),
                outcome=Outcome.ABORTED,
                cause=EndCause.USER,
                reason=self._at_once,
            )
        if self._disk_error is not None or self._finished is None:
            raise self._disk_error or AssertionError("the loop ended without an end")
        end = self._finished
        self._take_scrapes()
        self._tell_refusals()
        self._order.on_progress(self._board.look(self._coordinator.status(time.monotonic_ns())))
        outcome, reason = end.outcome, end.reason
        if in_force:  # worse than whatever else happened
            outcome, reason = Outcome.CRASHED, f"faults may still be in force: {in_force}"
        manifest = finished_manifest(
            self._draft, self._coordinator.account(), outcome=outcome, reason=reason
        )
        return RunOutcome(
            path=self._archive.finish(manifest), outcome=outcome, cause=end.cause, reason=reason
        )
