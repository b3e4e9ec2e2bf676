"""The run's books: conservation per engine and in total, for `run.json`.

Laws (measurement.md, "Conservation"), each breach a sentence:
1. planned = sent + dropped, 2. sent = ok + client_error + failed + in_flight_at_stop, of
each engine with a FINAL; 3. its windows add up to its FINAL, and all windows to the
archive; 4. in a run that went to the plan's end, an engine planned exactly the arrivals
of its shares; what is missing is stated as lost, too. An engine without a FINAL is listed
with what it handed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.clock import NS_PER_S
from loadtests.record.manifest import (
    AgentFacts,
    EngineSums,
    LostRequests,
    LostWindow,
    Sums,
    lost_requests_of,
)
from loadtests.swarm.holdings import Holding, PlannedCount, lost_windows
from loadtests.swarm.membership import Member
from loadtests.swarm.merge import add_totals
from loadtests.swarm.messages import NO_TOTALS, EngineState, Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The run's books, for `run.json`. `breaches` empty: every conservation law holds."""

    agents: tuple[AgentFacts, ...]
    engine_sums: tuple[EngineSums, ...]
    total_sums: Sums
    lost_requests: LostRequests
    lost_windows: tuple[LostWindow, ...]
    breaches: tuple[str, ...]
    warnings: tuple[str, ...]  # breaches, missing FINALs and losses as sentences

    @property
    def is_whole(self) -> bool:
        """True if nothing was lost and no law is broken: only such a run can pass."""
        has_finals = all(engine.has_final for engine in self.engine_sums)
        return has_finals and not self.lost_windows and not self.breaches


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the account is made of. `end_ns`: offset at which load ended."""

    members: Sequence[Member]
    holdings: Mapping[int, Holding]
    archived: Totals
    t0_unix_ns: int | None
    end_ns: int
    went_to_plan_end: bool
    is_open_load: bool
    planned: PlannedCount
    master_wall_ns: int
    noise: tuple[str, ...]


def build_account(books: Books) -> Account:
    """Add everything up."""
    breaches: list[str] = []
    warnings: list[str] = list(books.noise)
    engines: list[EngineSums] = []
    lost: list[LostWindow] = []
    for member in books.members:
        states = {state.index: state for state in member.engine_states}
        for index in range(member.first_index, member.first_index + member.hello.engines):
            if index in books.holdings:
                engine = _engine_sums(member, states.get(index), books.holdings[index])
                engines.append(engine)
                lost += _lost(books, member, index, has_final=engine.has_final)
                breaches += _breaches(books, states.get(index), engine)
    handed_over = NO_TOTALS
    for engine in engines:
        handed_over = add_totals(handed_over, _totals(engine.sums))
    if handed_over != books.archived:
        breaches.append(f"archive holds {books.archived}, engines handed over {handed_over}")
    warnings += [f"{engine.engine}: no FINAL" for engine in engines if not engine.has_final]
    warnings += [
        f"{entry.who}: lost {entry.planned} planned arrivals of {entry.from_s}-{entry.to_s}"
        for entry in lost
    ]
    return Account(
        agents=tuple(_facts(books, member) for member in books.members),
        engine_sums=tuple(engines),
        total_sums=_total(handed_over, engines),
        lost_requests=lost_requests_of(engines),
        lost_windows=tuple(lost),
        breaches=tuple(breaches),
        warnings=tuple(warnings + breaches),
    )


def _engine_sums(member: Member, state: EngineState | None, holding: Holding) -> EngineSums:
    totals = member.ledger.totals(holding.index)
    in_flight = None
    if state is not None and member.has_handed_over and state.final is not None:
        in_flight = state.in_flight_at_stop
    return EngineSums(
        agent=member.agent,
        engine=holding.engine,
        has_final=in_flight is not None,
        sums=_sums(totals, totals.sent - totals.done if in_flight is None else in_flight),
    )


def _sums(totals: Totals, in_flight_at_stop: int) -> Sums:
    return Sums(
        planned=totals.planned,
        sent=totals.sent,
        dropped=totals.dropped,
        ok=totals.ok,
        client_error=totals.client_error,
        failed=totals.failed,
        in_flight_at_stop=in_flight_at_stop,
    )


def _totals(sums: Sums) -> Totals:
    return Totals(sums.planned, sums.sent, sums.dropped, sums.ok, sums.client_error, sums.failed)


def _total(handed_over: Totals, engines: Sequence[EngineSums]) -> Sums:
    return _sums(handed_over, sum(engine.sums.in_flight_at_stop for engine in engines))


def _lost(books: Books, member: Member, index: int, *, has_final: bool) -> list[LostWindow]:
    if books.t0_unix_ns is None:
        return []
    holding, counted = books.holdings[index], member.ledger.totals(index).planned
    if holding.loss is not None:
        # An aborted run does not wait for the lease of an engine that is out of sight: what
        # that one may have sent until then reached the target, and is stated. So is what one
        # sent that was killed after the stop, of which it may not have heard yet.
        seen_ns = holding.loss.last_ns if member.has_handed_over else holding.loss.free_ns
        unseen_ns = 0 if has_final else seen_ns
        return lost_windows(
            holding,
            counted=counted,
            through_s=member.ledger.through_s(index),
            t0_unix_ns=books.t0_unix_ns,
            end_ns=max(books.end_ns, unseen_ns),
            planned=books.planned,
        )
    missing = _surplus(books, holding, counted)
    if missing <= 0:
        return []
    # Its lease or a takeover came too late: which of its seconds it was, nobody has noted.
    end_s = -(-(books.t0_unix_ns + books.end_ns) // NS_PER_S)
    return [LostWindow(who=holding.engine, from_s=end_s - 1, to_s=end_s, planned=missing)]


def _surplus(books: Books, holding: Holding, counted: int) -> int:
    """Arrivals due to an engine that lived to the plan's end, less those it planned."""
    if not (books.is_open_load and books.went_to_plan_end):
        return 0
    return holding.due(books.planned, books.end_ns) - counted


def _breaches(books: Books, state: EngineState | None, engine: EngineSums) -> list[str]:
    if not engine.has_final or state is None:
        return []
    found = []
    sums, holding = engine.sums, books.holdings[state.index]
    if state.final != _totals(sums):
        found.append(f"{engine.engine}: windows add up to {_totals(sums)}, FINAL {state.final}")
    if sums.waiting:
        found.append(f"{engine.engine}: planned {sums.planned} is not sent + dropped")
    if sums.sent != sums.done + sums.in_flight_at_stop:
        found.append(f"{engine.engine}: sent {sums.sent} is not outcomes + in flight at stop")
    surplus = 0 if holding.loss is not None else _surplus(books, holding, sums.planned)
    if surplus:
        due = sums.planned + surplus
        found.append(f"{engine.engine}: planned {sums.planned}, its shares hold {due} arrivals")
    return found


def _facts(books: Books, member: Member) -> AgentFacts:
    snapshot = member.snapshot
    warnings = () if snapshot is None else snapshot.warnings
    engine_warnings = tuple(
        f"{state.engine}: {warning}" for state in member.engine_states for warning in state.warnings
    )
    return AgentFacts(
        agent=member.agent,
        incarnation=member.incarnation,
        host=member.hello.host,
        engines=member.hello.engines,
        clock_offset_ns=member.clock.wall_offset_ns(books.master_wall_ns),
        round_trip_ns=member.clock.round_trip_ns,
        has_final=member.has_handed_over,
        versions=member.hello.versions,
        warnings=(*warnings, *engine_warnings),
    )
