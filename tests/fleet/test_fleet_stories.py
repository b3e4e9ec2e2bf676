"""Several hosts: what a run says when links, masters and agents fail, and when they do not.

Each test judges one law on the evidence of the stories that it concerns (`stories.py`),
against what the target itself has counted. All clocks are one kernel's, so times that
different hosts' processes noted can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from counting_target import ABANDONED
from hosts_rig import AGENTS, LEASE_S, why_not
from side_by_side import SideBySide, archived, asked_for, lost_planned
from stories import (
    AT_A_TIME,
    DEAD,
    DISTURBED,
    HARMLESS,
    LOST,
    RATE,
    STORIES,
    Evidence,
    Story,
    play,
)

from analysis.judging import State
from analysis.verdict import judge
from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.commands.judgement import exit_code_of
from loadtests.record.archive import verify
from loadtests.record.manifest import Outcome

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

Judge = Callable[[Story], Evidence]
CLOSED = (*LOST, *HARMLESS, *DISTURBED)
STRUCK = AGENTS[0]  # to whom it happens; with one engine each, agent i holds every third arrival
SKEW_MS = 5.0
RECEIVED = ["planned", "sent", "dropped", "ok", "client_error", "failed"]
IN_TIME_S = LEASE_S - 3  # then a new master has heard its agents before their leases end


def each(stories: tuple[Story, ...]) -> pytest.MarkDecorator:
    """A test of every one of the stories."""
    return pytest.mark.parametrize("story", stories, ids=[story.name for story in stories])


def named(name: str) -> Story:
    """One story."""
    return next(story for story in STORIES if story.name == name)


@pytest.fixture(scope="module")
def evidence(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Judge]:
    """Plays the stories that the selected tests ask for."""
    wanted = asked_for(request, "story")
    folder = tmp_path_factory.mktemp("fleet")
    stories = [story for story in STORIES if story in wanted]
    played = SideBySide(stories, lambda story: play(story, folder / story.name), AT_A_TIME)
    yield played.evidence
    played.close()


def away_s(seen: Evidence) -> float:
    """The longest that a run was without a master, as the masters that took it up say."""
    told = [event.text for event in seen.run.events if event.kind == "master_resumed"]
    return max(
        (float(re.findall(r"([0-9.]+) s (?:after|ago)", text)[0]) for text in told), default=0
    )


@each(STORIES)
def test_an_answered_request_is_never_invented(story: Story, evidence: Judge) -> None:
    """The archive holds no more ok requests than the target answered, and none was sent twice."""
    seen = evidence(story)
    assert archived(seen, "ok") >= story.rate // 2
    assert archived(seen, "ok") <= int((seen.requests["replied_ns"] != ABANDONED).sum())
    assert seen.requests["number"].is_unique


@each(CLOSED)
def test_what_the_target_saw_is_sent_or_stated_as_lost(story: Story, evidence: Judge) -> None:
    """The target read no request that is neither in the archive nor in a lost window."""
    seen = evidence(story)
    assert len(seen.requests) <= archived(seen, "sent") + lost_planned(seen), seen.text


@each(CLOSED)
def test_the_archive_is_the_sum_of_what_was_handed_over(story: Story, evidence: Judge) -> None:
    """Agents, totals and windows agree to the request, and every byte verifies."""
    seen = evidence(story)
    manifest = seen.run.manifest
    assert verify(seen.run.path) == ()
    assert manifest.total_sums is not None
    for name in ("planned", "sent", "dropped", "ok", "client_error", "failed"):
        of_engines = sum(getattr(engine.sums, name) for engine in manifest.engine_sums)
        assert of_engines == getattr(manifest.total_sums, name) == archived(seen, name), name
    if manifest.outcome is Outcome.COMPLETE:
        assert archived(seen, "planned") + lost_planned(seen) == story.load.arrivals


@each(STORIES)
def test_pass_means_that_nothing_is_missing(story: Story, evidence: Judge) -> None:
    """Verdict, outcome and exit code agree; a run that lost something is INCONCLUSIVE."""
    seen = evidence(story)
    verdict = judge(seen.run)
    code = exit_code_of(seen.run.manifest.outcome, verdict.state)
    assert seen.master_code == (-9 if story is DEAD else code), seen.text
    if verdict.state is State.PASS:
        assert len(seen.requests) == archived(seen, "ok") == story.load.arrivals
    if story in (*LOST, DEAD):
        assert verdict.state is State.INCONCLUSIVE, seen.text
        assert verdict.reasons
    assert "Traceback" not in seen.text


def check_all_that_was_received(seen: Evidence) -> None:
    """A complete archive, INCONCLUSIVE, of every window that the dead master had."""
    assert seen.left is not None
    assert seen.run.is_complete
    assert verify(seen.run.path) == ()
    assert seen.run.manifest.outcome is not Outcome.COMPLETE
    verdict = judge(seen.run)
    assert verdict.state is State.INCONCLUSIVE, seen.text
    assert verdict.reasons
    keys = ["window_s", "stage", "request", "node"]
    had, kept = (
        run.windows.groupby(keys, observed=True)[RECEIVED].sum() for run in (seen.left, seen.run)
    )
    assert had["ok"].sum() >= RATE // 2
    # What came after its death, from agents that were still there, adds to it.
    assert (kept.reindex(had.index, fill_value=0) >= had).all(axis=None), seen.text


@each(HARMLESS)
def test_what_does_no_harm_costs_nothing(story: Story, evidence: Judge) -> None:
    """The merge of three hosts is exactly what the target counted, and all of the plan.

    Where the machine let a master start too late for the lease, it is all that was received.
    """
    seen = evidence(story)
    manifest = seen.run.manifest
    if manifest.outcome is not Outcome.COMPLETE and away_s(seen) > IN_TIME_S:
        check_all_that_was_received(seen)
        return
    assert manifest.outcome is Outcome.COMPLETE, seen.text
    assert manifest.lost_windows == ()
    assert all(engine.has_final for engine in manifest.engine_sums)
    assert archived(seen, "sent") == len(seen.requests) == story.load.arrivals
    assert archived(seen, "ok") == int((seen.requests["replied_ns"] != ABANDONED).sum())
    assert sorted(seen.requests["number"]) == list(range(story.load.arrivals))
    assert len(manifest.agents) == len(AGENTS)


@each((*LOST, DEAD))
def test_load_that_lost_its_master_ends_with_the_lease(story: Story, evidence: Judge) -> None:
    """What an agent that was cut off sends ends with its lease of 10 s and one second."""
    seen = evidence(story)
    numbers = seen.requests["number"]
    if story.name in {"killed-master", "resumed-late", "slow-master"}:
        struck = seen.requests
    else:
        struck = seen.requests[numbers % len(AGENTS) == AGENTS.index(STRUCK)]
    granted_ns = seen.marks["struck"]  # the last moment at which a lease can have been granted
    if story.name == "mute-agent":  # what the master says still arrives until it gives up
        granted_ns = next(e.at_unix_ns for e in seen.run.events if e.kind == "agent_lost")
    last_s = (struck["received_ns"].max() - granted_ns) / NS_PER_S
    assert last_s <= LEASE_S + 1


@each(STORIES)
def test_nothing_is_left_running(story: Story, evidence: Judge) -> None:
    """When all have ended, no process of any host is alive."""
    assert evidence(story).survivors == ()


@each((named("other-clocks"), named("locust")))
def test_hosts_start_together(story: Story, evidence: Judge) -> None:
    """First sends of all agents, by the target's clock, lie within 5 ms of one T0.

    Of each agent the least delay of its first second counts: what is beyond it is this
    machine's business with its processes, not a T0 of its own.
    """
    seen = evidence(story)
    t0_ns = seen.run.manifest.t0_unix_ns
    assert t0_ns is not None
    first = seen.requests[seen.requests["number"] < story.rate]
    due_ns = t0_ns + first["number"] * (NS_PER_S / story.rate)
    delay_ms = (first["received_ns"] - due_ns) / NS_PER_MS
    least_ms = delay_ms.groupby(first["number"] % len(AGENTS)).min()
    assert len(least_ms) == len(AGENTS)
    assert least_ms.max() - least_ms.min() < SKEW_MS, least_ms


@each((named("other-clocks"),))
def test_clocks_of_other_hosts_are_found(story: Story, evidence: Judge) -> None:
    """Monotonic clocks hours apart: the wall clocks are one, and the estimate says so."""
    for facts in evidence(story).run.manifest.agents:
        assert facts.clock_offset_ns is not None
        assert facts.round_trip_ns is not None
        # Half the round trip bounds the error; the wall clock is read a moment later.
        assert abs(facts.clock_offset_ns) <= facts.round_trip_ns / 2 + NS_PER_MS


@each((named("resumed"), named("resumed-twice"), named("resumed-late")))
def test_a_run_that_is_taken_up_says_so(story: Story, evidence: Judge) -> None:
    """Every master that took the run up is an event of the archive, which is a complete one."""
    seen = evidence(story)
    assert seen.run.is_complete
    told = [event.text for event in seen.run.events if event.kind == "master_resumed"]
    is_twice = story.name == "resumed-twice" and away_s(seen) <= IN_TIME_S
    assert len(told) == (2 if is_twice else 1)
    if story.name == "resumed-late":
        assert seen.run.manifest.outcome is Outcome.CRASHED
        assert "died" in seen.run.manifest.outcome_reason


@each((named("resumed-late"),))
def test_a_run_that_is_taken_up_too_late_is_all_that_was_received(
    story: Story, evidence: Judge
) -> None:
    """Nobody is left to say more: the archive has the dead master's windows, and no other."""
    seen = evidence(story)
    check_all_that_was_received(seen)
    assert seen.left is not None
    for name in RECEIVED:
        assert archived(seen, name) == int(seen.left.windows[name].sum()), name


@each((named("late"), named("duplicate"), named("restarted-agent")))
def test_who_comes_under_load_has_no_part(story: Story, evidence: Judge) -> None:
    """A late agent, a second of the same name, a restarted one: refused, told why, recorded."""
    seen = evidence(story)
    (text,) = seen.other_texts
    assert "membership is frozen" in text
    (refused, *_) = [event for event in seen.run.events if event.kind == "agent_refused"]
    assert "membership is frozen" in refused.text
    assert len(seen.run.manifest.agents) == len(AGENTS)


@each((named("cut-10-s"), named("zombie")))
def test_who_comes_back_hands_over_and_gets_no_lease(story: Story, evidence: Judge) -> None:
    """Given up, heard again: what it had counted is in the archive, its engine has ended."""
    seen = evidence(story)
    kinds = {event.kind for event in seen.run.events if STRUCK in event.who}
    assert {"agent_lost", "agent_back"} <= kinds, seen.text
    (engine,) = [e for e in seen.run.manifest.engine_sums if e.agent == STRUCK]
    assert engine.has_final
