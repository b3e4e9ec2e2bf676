"""kill -9 and SIGSTOP of an engine, an agent and the master under each loss policy.

Each test judges one law on the evidence of the runs that it concerns (`kill_matrix.py`),
against what the target itself has counted. Limits of time are those of the architecture,
without an allowance: stamps of one host's clocks are compared, not the test's own timing.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator

import pytest
from counting_target import ABANDONED
from kill_matrix import AT_A_TIME, CELLS, LEASE_S, RATE, Cell, Evidence, Victim, play
from side_by_side import SideBySide, archived, asked_for, lost_planned

from analysis.judging import State
from analysis.verdict import judge
from loadtests.clock import NS_PER_S
from loadtests.record.archive import verify
from loadtests.record.event import Event
from loadtests.record.manifest import Outcome

pytestmark = [pytest.mark.system, pytest.mark.faults, pytest.mark.timeout(300)]

SHARE = RATE / 2  # of one of two engines, per second
NOTICED_WITHIN_S = {
    (Victim.ENGINE, signal.SIGKILL): 1.0,
    (Victim.ENGINE, signal.SIGSTOP): 4.0,
    (Victim.AGENT, signal.SIGKILL): 3.0,
    (Victim.AGENT, signal.SIGSTOP): 4.0,
}
UNDER_ABORT_OR_CONTINUE = tuple(cell for cell in CELLS if cell.policy != "redistribute")
WITH_MASTER = tuple(cell for cell in CELLS if cell.victim is not Victim.MASTER)
WITHOUT_MASTER = tuple(cell for cell in CELLS if cell.victim is Victim.MASTER)
CLOSED = tuple(
    cell for cell in CELLS if cell not in WITHOUT_MASTER or cell.number is signal.SIGSTOP
)
TAKEN_OVER = tuple(cell for cell in WITH_MASTER if cell.policy == "redistribute")
HUNG_AGENT = tuple(
    cell for cell in WITH_MASTER if cell.victim is Victim.AGENT and cell.number is signal.SIGSTOP
)

Judge = Callable[[Cell], Evidence]


def each(cells: tuple[Cell, ...]) -> pytest.MarkDecorator:
    """A test of every one of the cells."""
    return pytest.mark.parametrize("cell", cells, ids=[cell.name for cell in cells])


@pytest.fixture(scope="module")
def evidence(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Judge]:
    """Plays the cells that the selected tests ask for."""
    wanted = asked_for(request, "cell")
    folder = tmp_path_factory.mktemp("matrix")
    cells = [cell for cell in CELLS if cell in wanted]
    matrix = SideBySide(cells, lambda cell: play(cell, folder / cell.name), AT_A_TIME)
    yield matrix.evidence
    matrix.close()


def first_event(seen: Evidence, kind: str) -> Event:
    """The first event of a kind; fails naming those there are."""
    found = [event for event in seen.run.events if event.kind == kind]
    assert found, [event.kind for event in seen.run.events]
    return found[0]


def takeover_s(seen: Evidence) -> int:
    """Second of the plan from which the survivors hold the share, as the event says."""
    return int(first_event(seen, "takeover").text.rsplit(" ", 1)[1])


def t0_ns(seen: Evidence) -> int:
    """T0 as unix time."""
    assert seen.run.manifest.t0_unix_ns is not None
    return seen.run.manifest.t0_unix_ns


def share_end_s(cell: Cell, seen: Evidence) -> float:
    """Unix time until which the victim's share may be stated as lost, by the policy."""
    if cell.policy == "redistribute":
        return t0_ns(seen) / NS_PER_S + takeover_s(seen)
    if cell.policy == "continue":
        return t0_ns(seen) / NS_PER_S + cell.load.seconds
    noticed_s = first_event(seen, "engine_lost").at_unix_ns / NS_PER_S
    # A silent agent holds a lease until it was given up, which its engines may use up unseen.
    return noticed_s if cell.victim is Victim.ENGINE else noticed_s + LEASE_S + 1


@each(CELLS)
def test_an_answered_request_is_never_invented(cell: Cell, evidence: Judge) -> None:
    """The archive holds no more ok requests than the target answered, and none was sent twice."""
    seen = evidence(cell)
    assert archived(seen, "ok") >= RATE // 2
    assert archived(seen, "ok") <= int((seen.requests["replied_ns"] != ABANDONED).sum())
    assert seen.requests["number"].is_unique


@each(CLOSED)
def test_what_the_target_saw_is_sent_or_stated_as_lost(cell: Cell, evidence: Judge) -> None:
    """The target read no request that is neither in the archive nor in a lost window."""
    seen = evidence(cell)
    assert len(seen.requests) <= archived(seen, "sent") + lost_planned(seen)


@each(CLOSED)
def test_the_archive_is_the_sum_of_what_was_handed_over(cell: Cell, evidence: Judge) -> None:
    """Engines, totals, windows and histograms agree to the request, and every byte verifies."""
    seen = evidence(cell)
    manifest = seen.run.manifest
    assert verify(seen.run.path) == ()
    assert manifest.total_sums is not None
    for name in ("planned", "sent", "dropped", "ok", "client_error", "failed"):
        of_engines = sum(getattr(engine.sums, name) for engine in manifest.engine_sums)
        assert of_engines == getattr(manifest.total_sums, name) == archived(seen, name), name
    if manifest.outcome is Outcome.COMPLETE:
        assert archived(seen, "planned") + lost_planned(seen) == cell.load.arrivals


@each(tuple(cell for cell in CELLS if cell not in CLOSED))
def test_a_dead_master_leaves_a_readable_partial_archive(cell: Cell, evidence: Judge) -> None:
    """What was acknowledged is there, its windows add up, and the run says that it died."""
    seen = evidence(cell)
    assert not seen.run.is_complete
    assert any("died" in finding for finding in seen.run.findings)
    ended = sum(archived(seen, name) for name in ("ok", "client_error", "failed"))
    assert 0 <= archived(seen, "sent") - ended <= cell.load.connections
    # All but the second under way and the one before it had been handed over.
    assert archived(seen, "sent") >= RATE * ((seen.signal_ns - t0_ns(seen)) / NS_PER_S - 2)


@each(WITH_MASTER)
def test_lost_windows_are_those_that_the_policy_explains(cell: Cell, evidence: Judge) -> None:
    """The victim's alone, from at most a second before the signal to the end of its share."""
    seen = evidence(cell)
    lost = seen.run.manifest.lost_windows
    assert lost
    assert all(seen.signalled in entry.who for entry in lost)
    assert len({entry.who for entry in lost}) == 1
    signal_s, end_s = seen.signal_ns / NS_PER_S, share_end_s(cell, seen)
    # Windows are whole seconds: the one that the signal met, and the one before it.
    first_s, last_s = math.floor(signal_s) - 1, math.ceil(end_s)
    assert min(entry.from_s for entry in lost) >= first_s
    assert max(entry.to_s for entry in lost) <= last_s
    assert lost_planned(seen) <= SHARE * (last_s - first_s) + 2


@each(WITH_MASTER)
def test_a_loss_is_noticed_in_time(cell: Cell, evidence: Judge) -> None:
    """A killed engine within 1 s, a killed agent within 3 s, a hung one within 4 s."""
    seen = evidence(cell)
    kind = "agent_lost" if cell.victim is Victim.AGENT else "engine_lost"
    event = first_event(seen, kind)
    assert event.who.endswith(seen.signalled)
    noticed_s = (event.at_unix_ns - seen.signal_ns) / NS_PER_S
    assert 0 < noticed_s <= NOTICED_WITHIN_S[cell.victim, cell.number]


@each(UNDER_ABORT_OR_CONTINUE)
def test_a_run_with_a_loss_never_passes(cell: Cell, evidence: Judge) -> None:
    """INCONCLUSIVE by the archive, by the exit code and in print, and the reason is named."""
    seen = evidence(cell)
    verdict = judge(seen.run)
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.reasons
    is_dead = cell.victim is Victim.MASTER and cell.number is signal.SIGKILL
    has_come_to_its_end = cell.policy == "continue" and cell.victim is not Victim.MASTER
    assert seen.master_code == (-9 if is_dead else 3 if has_come_to_its_end else 4), seen.text
    assert "Traceback" not in seen.text


@each(TAKEN_OVER)
def test_survivors_really_send_the_share(cell: Cell, evidence: Judge) -> None:
    """From the marked second on, the target read every planned arrival exactly once."""
    seen = evidence(cell)
    first = takeover_s(seen) * RATE
    assert first < cell.load.arrivals - RATE, "no second is left to see the takeover in"
    numbers = seen.requests["number"]
    assert sorted(numbers[numbers >= first]) == list(range(first, cell.load.arrivals))
    assert first_event(seen, "takeover").who.endswith(seen.signalled.removesuffix("/0") + "/0")
    assert seen.run.manifest.outcome is Outcome.COMPLETE
    assert seen.master_code in {0, 3}, seen.text


@each(WITHOUT_MASTER)
def test_load_without_a_master_ends_with_the_lease(cell: Cell, evidence: Judge) -> None:
    """No request later than the lease of 10 s and one second; workers end and say why."""
    seen = evidence(cell)
    last_s = (seen.requests["received_ns"].max() - seen.signal_ns) / NS_PER_S
    assert LEASE_S / 2 < last_s <= LEASE_S + 1
    assert seen.worker_codes == (4, 4), seen.text


@each(HUNG_AGENT)
def test_engines_of_a_hung_agent_end_with_the_lease(cell: Cell, evidence: Judge) -> None:
    """After the lease and one second none of its arrivals is sent, but by who took them over."""
    seen = evidence(cell)
    after = seen.requests[seen.requests["received_ns"] > seen.signal_ns + (LEASE_S + 1) * NS_PER_S]
    if cell.policy == "abort":
        assert after.empty
    else:
        taken_s = takeover_s(seen) if cell.policy == "redistribute" else cell.load.seconds
        of_survivor = after[after["number"] < taken_s * RATE]["number"] % 2
        assert of_survivor.nunique() == 1


@each(CELLS)
def test_nothing_is_left_running(cell: Cell, evidence: Judge) -> None:
    """When all have ended, no process of the run is alive, wherever it came from."""
    assert evidence(cell).survivors == ()
