"""The host against its own history, the lock against the dead, and what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from nights import HOUR_NS, READING, attempt, plan_of, run_night, step

from loadtests.nightly.canary import HostLimits, HostReading, judge_host
from loadtests.nightly.lock import Holder, LockState, state_of, words_of
from loadtests.nightly.records import NightRecord, NightState
from loadtests.nightly.retention import Archive, Kept, decide_retention
from loadtests.nightly.spec import StepKind

LIMITS = HostLimits(cpu_ratio=0.10, loopback_ratio=0.30, disk_sync_ratio=1.0)


def reading(**changes: object) -> HostReading:
    """The usual host, changed."""
    return msgspec.structs.replace(READING, **changes)


def test_a_new_machine_has_no_history() -> None:
    """It is measured and noted, and nothing is judged before there are four nights."""
    for nights in range(4):
        judged = judge_host(reading(cpu_ns=99_000_000), [READING] * nights, LIMITS)
        assert judged.moved == ()
        assert f"{nights} nights on this machine" in judged.notes[0]
    assert judge_host(reading(cpu_ns=99_000_000), [READING] * 4, LIMITS).moved


@pytest.mark.parametrize(
    ("figure", "usual_ns", "least_moved"),
    [
        ("cpu_ns", READING.cpu_ns, 1.11),
        ("loopback_ns", READING.loopback_ns, 1.31),
        ("disk_sync_ns", READING.disk_sync_ns, 2.01),
    ],
)
def test_each_figure_has_its_limit_in_both_directions(
    figure: str, usual_ns: int, least_moved: float
) -> None:
    """Slower or faster by more than its part is another host; within it, it is not."""
    history = [READING] * 10
    for factor, is_moved in (
        (least_moved, True),
        (1 / least_moved, True),
        (least_moved - 0.02, False),
        (1 / (least_moved - 0.02), False),
    ):
        judged = judge_host(reading(**{figure: round(usual_ns * factor)}), history, LIMITS)
        assert bool(judged.moved) is is_moved, (figure, factor)
        assert len(judged.moved) <= 1


def test_what_moved_is_said_with_its_figures() -> None:
    """Seen, usual and allowed."""
    (words,) = judge_host(reading(cpu_ns=12_000_000), [READING] * 5, LIMITS).moved
    assert words == (
        "fixed work takes 12 ms, +20% from the median 10 ms of 5 nights; 10% is allowed"
    )


def test_a_noisy_host_is_given_its_own_noise() -> None:
    """At 10 % noise from night to night 15 % more is nothing: unchanged nights are seldom void."""
    random = np.random.default_rng(1)
    void = 0
    for _ in range(500):
        values = 10_000_000 * np.exp(random.normal(0, 0.10, 15))
        history = [reading(cpu_ns=round(v)) for v in values[:-1]]
        void += bool(judge_host(reading(cpu_ns=round(values[-1])), history, LIMITS).moved)
    assert void <= 15  # 3 %


def test_another_machine_is_said_first() -> None:
    """Another processor or number of cores moves the host whatever the figures are."""
    for other in (reading(cpu_model="Y"), reading(cores=4)):
        judged = judge_host(other, [READING] * 5, LIMITS)
        assert "another machine" in judged.moved[0]
        # The night after, it is the machine at hand, with a history of its own.
        again = judge_host(other, [*[READING] * 5, other], LIMITS)
        assert (again.moved, len(again.notes)) == ((), 1)


def test_a_change_that_stays_is_accepted() -> None:
    """A host that is slower for good makes at most half of the nights looked at void."""
    history, voids = [READING] * 20, 0
    for _ in range(20):
        tonight = reading(cpu_ns=13_000_000)
        voids += bool(judge_host(tonight, history, LIMITS).moved)
        history.append(tonight)
    assert 1 <= voids <= 8
    assert judge_host(reading(cpu_ns=13_000_000), history, LIMITS).moved == ()


ME = Holder(
    host="here", boot_id="b2", pid=77, start_ticks=900, night="2026-11-26", until_unix_ns=10**18
)


def holder(**changes: object) -> Holder:
    """Another process of this host and boot, which runs."""
    return msgspec.structs.replace(ME, pid=55, start_ticks=500, **changes)


@pytest.mark.parametrize(
    ("before", "running", "state"),
    [
        (None, {}, LockState.FREE),
        (holder(), {55: 500}, LockState.HELD),
        (holder(), {}, LockState.STALE),  # it died
        (holder(), {55: 501}, LockState.STALE),  # its pid is another's now
        (holder(boot_id="b1"), {55: 500}, LockState.STALE),  # of before a restart
        (holder(until_unix_ns=0), {55: 500}, LockState.HELD),  # late, but alive
        (holder(host="there"), {}, LockState.HELD),  # nobody here can tell
        (holder(host="there", until_unix_ns=10**17), {}, LockState.STALE),  # its time is over
    ],
)
def test_a_dead_holders_lock_is_taken_over(
    before: Holder | None, running: dict[int, int], state: LockState
) -> None:
    """Pid, start time and boot say who it is; of another host, the end of its time."""
    assert state_of(before, ME, 10**18 - 1, running.get) is state


def test_a_holder_is_named() -> None:
    """With the time that its night may still take."""
    assert words_of(holder(), 10**18 - HOUR_NS) == (
        "night 2026-11-26 of pid 55 on here, for at most 60 more min"
    )
    assert words_of(holder(), 10**18 + 1).endswith("overdue")


def archive(run_id: str, **changes: object) -> Archive:
    """A whole run that passed."""
    plain = Archive(
        run_id=run_id,
        path=Path(run_id),
        is_running=False,
        is_damaged=False,
        is_baseline=False,
        verdict="PASS",
        is_complete=True,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def night(day: int, *run_ids: str) -> NightRecord:
    """A night of November with runs."""
    script = {f"s{n}": [attempt(NightState.PASS, run_id=r)] for n, r in enumerate(run_ids)}
    steps = [step(f"s{n}", 1) for n in range(len(run_ids))]
    return run_night(plan_of(*steps), script=script, at=f"2026-11-{day:02}T01:30:00")[0]


def test_what_stays_and_what_goes() -> None:
    """Two newest nights whole; of older ones baselines, failures and what cannot be judged."""
    nights = [
        night(24, "pass", "base", "fail", "inconclusive", "aborted", "running", "damaged", "?"),
        night(25, "kept-1"),
        night(26, "kept-2", "not-there"),
    ]
    archives = [
        archive("pass"),
        archive("base", is_baseline=True),
        archive("fail", verdict="FAIL"),
        archive("inconclusive", verdict="INCONCLUSIVE"),
        archive("aborted", verdict="INCONCLUSIVE", is_complete=False),
        archive("running", is_running=True, verdict="?"),
        archive("damaged", is_damaged=True, verdict="?"),
        archive("?", verdict="?"),
        archive("kept-1"),
        archive("kept-2"),
        archive("somebodys-own"),
    ]
    found = decide_retention(nights[::-1], {one.run_id: one for one in archives}, 2)
    assert [one.run_id for one in found.gone] == ["pass", "inconclusive"]
    assert {one.run_id: why for one, why in found.kept} == {
        "base": Kept.BASELINE,
        "fail": Kept.FAILURE,
        "aborted": Kept.FAILURE,
        "running": Kept.RUNNING,
        "damaged": Kept.DAMAGED,
        "?": Kept.UNJUDGED,
        "kept-1": Kept.NEW,
        "kept-2": Kept.NEW,
    }


def judged_by(kind: StepKind, state: NightState) -> NightRecord:
    """Night 24: two runs that passed, and a step that looked at them."""
    looked = step("looked", 0, kind=kind, scenario=None)
    script = {"looked": [attempt(state)]}
    plan = plan_of(step("rest"), step("grpc"), looked)
    return run_night(plan, script=script, at="2026-11-24T01:30:00")[0]


@pytest.mark.parametrize(
    ("kind", "state", "stays"),
    [
        (StepKind.COMPARE, NightState.FAIL, True),
        (StepKind.TREND, NightState.HARNESS, True),
        (StepKind.COMPARE, NightState.PASS, False),
    ],
)
def test_a_failure_that_another_step_found_stays(
    kind: StepKind,
    state: NightState,
    stays: bool,  # noqa: FBT001 - a table
) -> None:
    """A regression against the baseline is a failure of runs whose own verdicts are PASS."""
    archives = {run: archive(run) for run in ("run-of-rest", "run-of-grpc")}
    found = decide_retention([judged_by(kind, state), night(25)], archives, 1)
    assert [one.run_id for one in found.gone] == ([] if stays else list(archives))
    assert {why for _, why in found.kept} == ({Kept.FAILURE} if stays else set())


def test_a_run_that_hung_stays_whatever_its_archive_says() -> None:
    """Its child was stopped, and left a verdict all the same."""
    hung = {"rest": [attempt(NightState.HARNESS, run_id="hung")]}
    record, _ = run_night(plan_of(step("rest")), script=hung, at="2026-11-24T01:30:00")
    found = decide_retention([record, night(25)], {"hung": archive("hung")}, 1)
    assert [(one.run_id, why) for one, why in found.kept] == [("hung", Kept.FAILURE)]


def test_keeping_nothing_is_a_mistake() -> None:
    """At least one night."""
    with pytest.raises(ValueError, match="0 nights"):
        decide_retention([], {}, 0)
