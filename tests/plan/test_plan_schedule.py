"""The schedule: shares of any split are the whole, times follow the profile, mix is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plan_builders import good_plan, node, request, stages

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.plan.model import (
    ArrivalProcess,
    Hold,
    LoadModel,
    Plan,
    Profile,
    Ramp,
    Share,
    Sine,
    Spike,
    Step,
)
from loadtests.plan.pacers import pacer_of
from loadtests.plan.schedule import Arrivals, Schedule
from loadtests.plan.stages import peak_level

WHOLE = Share(residue=0, modulus=1, from_ns=0)
LEVELS = st.floats(min_value=0.0, max_value=3000.0)
PROCESSES = st.sampled_from(ArrivalProcess)


def profiles() -> st.SearchStrategy[Profile]:
    """Profiles of a 2 s stage."""
    sines = st.builds(
        lambda mean, part, period_ms: Sine(
            mean=mean, amplitude=mean * part, period_ns=period_ms * NS_PER_MS
        ),
        LEVELS,
        st.floats(min_value=0.0, max_value=1.0),
        st.integers(min_value=100, max_value=5000),
    )
    spikes = st.builds(
        Spike,
        base=LEVELS,
        peak=LEVELS,
        peak_start_ns=st.integers(min_value=0, max_value=NS_PER_S),
        peak_ns=st.integers(min_value=1, max_value=NS_PER_S),
    )
    return st.one_of(
        st.builds(Hold, level=LEVELS),
        st.builds(Ramp, start=LEVELS, end=LEVELS),
        st.builds(Step, start=LEVELS, end=LEVELS, steps=st.integers(min_value=2, max_value=9)),
        spikes,
        sines,
    )


def plans() -> st.SearchStrategy[Plan]:
    """Plans of one to three stages of 2 s."""
    return st.builds(
        lambda shapes, process, seed: good_plan(
            of_stages=stages(*((f"s{n}", 2.0, shape) for n, shape in enumerate(shapes))),
            arrival_process=process,
            seed=seed,
            nodes=(node("a", weight=3.0), node("b")),
            requests=(request("x", weight=5.0), request("y", weight=2.0), request("z")),
        ),
        st.lists(profiles(), min_size=1, max_size=3),
        PROCESSES,
        st.integers(min_value=0, max_value=2**63 - 1),
    )


def whole_of(plan: Plan) -> Arrivals:
    """All arrivals of a plan at once."""
    return Schedule(plan).arrivals(WHOLE, 0, plan.duration_ns)


def by_sequence(parts: list[Arrivals]) -> dict[int, tuple[int, int, int, int]]:
    """Arrivals as a dictionary; a sequence number met twice is an error."""
    found: dict[int, tuple[int, int, int, int]] = {}
    for part in parts:
        rows = zip(
            part.offsets_ns.tolist(),
            part.requests.tolist(),
            part.nodes.tolist(),
            part.stages.tolist(),
            strict=True,
        )
        for sequence, row in zip(part.sequences.tolist(), rows, strict=True):
            assert sequence not in found
            found[sequence] = row
    return found


@settings(max_examples=60)
@given(plan=plans(), modulus=st.integers(min_value=1, max_value=17))
def test_shares_together_are_the_whole(plan: Plan, modulus: int) -> None:
    """The union over the shares of any split equals the whole, arrival by arrival."""
    schedule = Schedule(plan)
    parts = [
        schedule.arrivals(Share(residue=residue, modulus=modulus, from_ns=0), 0, plan.duration_ns)
        for residue in range(modulus)
    ]
    whole = by_sequence([whole_of(plan)])
    assert by_sequence(parts) == whole
    assert sorted(whole) == list(range(sum(schedule.totals)))


@settings(max_examples=60)
@given(
    plan=plans(),
    cuts=st.lists(st.integers(min_value=-NS_PER_S, max_value=7 * NS_PER_S), max_size=8),
    residue=st.integers(min_value=0, max_value=2),
)
def test_any_stretches_together_are_the_whole(plan: Plan, cuts: list[int], residue: int) -> None:
    """Asking in stretches of any length, in any cut, changes nothing; `planned` agrees."""
    schedule = Schedule(plan)
    share = Share(residue=residue, modulus=3, from_ns=0)
    edges = sorted({0, plan.duration_ns, *cuts})
    parts = [schedule.arrivals(share, a, b) for a, b in itertools.pairwise(edges)]
    assert by_sequence(parts) == by_sequence([schedule.arrivals(share, 0, plan.duration_ns)])
    for part, (a, b) in zip(parts, itertools.pairwise(edges), strict=True):
        assert schedule.planned(share, a, b) == len(part)
        assert np.all(np.diff(part.offsets_ns) >= 0)
        assert np.all((part.offsets_ns >= a) & (part.offsets_ns < b))


@settings(max_examples=40)
@given(plan=plans(), at_ns=st.integers(min_value=0, max_value=6 * NS_PER_S))
def test_a_split_share_is_taken_over_exactly(plan: Plan, at_ns: int) -> None:
    """The parts of a lost share, from the takeover on, are what the lost engine had left."""
    schedule = Schedule(plan)
    share = Share(residue=1, modulus=3, from_ns=0)
    parts = [schedule.arrivals(part, 0, plan.duration_ns) for part in share.split(4, at_ns)]
    left = schedule.arrivals(share, at_ns, plan.duration_ns)
    assert by_sequence(parts) == by_sequence([left])


@settings(max_examples=60)
@given(plan=plans())
def test_arrivals_lie_in_their_stage(plan: Plan) -> None:
    """An arrival's stage is the one its time lies in; totals count it there."""
    arrivals = whole_of(plan)
    for index, stage in enumerate(plan.stages):
        own = arrivals.offsets_ns[arrivals.stages == index]
        assert own.size == Schedule(plan).totals[index]
        assert np.all((own >= stage.start_ns) & (own < stage.end_ns))


@settings(max_examples=100)
@given(profile=profiles())
def test_constant_arrivals_follow_the_cumulative_rate(profile: Profile) -> None:
    """Arrival k of a stage lies where the cumulative rate reaches k + 1/2."""
    plan = good_plan(of_stages=stages(("s", 2.0, profile)))
    arrivals = whole_of(plan)
    pacer = pacer_of(profile, 2 * NS_PER_S)
    counts = np.array([pacer.count(float(t) / NS_PER_S) for t in arrivals.offsets_ns])
    # 2 ns of rounding and the flat trough of a wave of level 0 move no count by more.
    slack = 1e-5 + 4e-9 * peak_level(profile)
    assert np.all(np.abs(counts - (np.arange(len(arrivals)) + 0.5)) < slack)
    assert len(arrivals) == int(pacer.count(2.0) + 0.5 + 1e-6)


@settings(max_examples=100)
@given(profile=profiles())
def test_counts_are_the_integral_of_the_level(profile: Profile) -> None:
    """A pacer's count is the area under its level (midpoint rule, 4 000 strips)."""
    pacer = pacer_of(profile, 2 * NS_PER_S)
    middles = (np.arange(4000) + 0.5) / 2000
    area = sum(pacer.level(float(t)) for t in middles) / 2000
    assert pacer.count(2.0) == pytest.approx(area, rel=2e-3, abs=2 * peak_level(profile) / 1000)


@pytest.mark.parametrize(
    ("profile", "times_ms"),
    [
        (Hold(level=4.0), [125, 375, 625, 875]),
        (Ramp(start=0.0, end=8.0), [353.5534, 612.3724, 790.5694, 935.4143]),
        (Ramp(start=8.0, end=0.0), [64.5857, 209.4306, 387.6276, 646.4466]),
        (Step(start=2.0, end=6.0, steps=2), [250, 583.3333, 750, 916.6667]),
        (
            Spike(base=0.0, peak=8.0, peak_start_ns=NS_PER_S // 2, peak_ns=NS_PER_S // 4),
            [562.5, 687.5],
        ),
        (
            Sine(mean=4.0, amplitude=0.0, period_ns=NS_PER_S),
            [125, 375, 625, 875],
        ),
    ],
    ids=["hold", "rising ramp", "falling ramp", "step", "spike", "flat wave"],
)
def test_times_are_as_computed_by_hand(profile: Profile, times_ms: list[float]) -> None:
    """One second of each shape has its arrivals at the hand-computed times."""
    arrivals = whole_of(good_plan(of_stages=stages(("s", 1.0, profile))))
    assert arrivals.offsets_ns / NS_PER_MS == pytest.approx(times_ms, abs=1e-4)


def test_an_hour_at_the_highest_rate_has_random_access() -> None:
    """The last 100 ms of an hour at 1,552,000/s are computed alone, exact to the arrival."""
    plan = good_plan(of_stages=stages(("s", 3600.0, Hold(level=1_552_000.0))))
    share = Share(residue=5, modulus=64, from_ns=0)
    end = plan.duration_ns
    arrivals = Schedule(plan).arrivals(share, end - 100 * NS_PER_MS, end)
    assert len(arrivals) == 2425
    assert Schedule(plan).totals == (1_552_000 * 3600,)
    assert np.all(arrivals.sequences % 64 == 5)
    expected = (arrivals.sequences + 0.5) / 1_552_000 * NS_PER_S
    assert np.abs(arrivals.offsets_ns - expected).max() < 2


def test_poisson_counts_and_gaps_are_poisson() -> None:
    """Bins have the mean and variance of a Poisson law, gaps those of an exponential one."""
    plan = good_plan(
        of_stages=stages(("s", 200.0, Hold(level=500.0))),
        arrival_process=ArrivalProcess.POISSON,
    )
    offsets = whole_of(plan).offsets_ns
    # 37 ms does not divide the generator's own bins, so it would show their seams.
    counts = np.bincount(offsets // (37 * NS_PER_MS))[:-1]
    assert counts.mean() == pytest.approx(18.5, rel=0.02)
    assert counts.var() == pytest.approx(18.5, rel=0.10)
    gaps_s = np.diff(offsets) / NS_PER_S
    assert gaps_s.mean() == pytest.approx(1 / 500, rel=0.02)
    assert gaps_s.std() == pytest.approx(1 / 500, rel=0.03)
    # Kolmogorov-Smirnov distance to the exponential law; 1.63 / sqrt(n) is its 1 % point.
    ordered = np.sort(gaps_s)
    law = 1 - np.exp(-500 * ordered)
    distance = np.abs(law - np.arange(1, ordered.size + 1) / ordered.size).max()
    assert distance < 1.63 / np.sqrt(ordered.size)


def test_seeds_make_plans_reproducible() -> None:
    """Equal seeds give equal arrivals, another seed other ones."""
    plan = good_plan(arrival_process=ArrivalProcess.POISSON)
    again = good_plan(arrival_process=ArrivalProcess.POISSON)
    other = good_plan(arrival_process=ArrivalProcess.POISSON, seed=8)
    assert whole_of(plan).offsets_ns.tolist() == whole_of(again).offsets_ns.tolist()
    assert whole_of(plan).offsets_ns.tolist() != whole_of(other).offsets_ns.tolist()


def shares_of(values: NDArray[np.int64], kinds: int) -> NDArray[np.float64]:
    """Relative frequencies."""
    frequencies: NDArray[np.float64] = np.bincount(values, minlength=kinds) / values.size
    return frequencies


def mixed_schedule() -> Schedule:
    """Two nodes 3 : 1, three requests 40 : 55 : 5."""
    return Schedule(
        good_plan(
            nodes=(node("a", weight=3.0), node("b")),
            requests=(request("x", weight=40), request("y", weight=55), request("z", weight=5)),
        )
    )


@pytest.mark.parametrize("first", [0, 10**6 + 7, 10**12])
def test_the_mix_is_kept_over_short_stretches(first: int) -> None:
    """Any 2,000 arrivals hold weights within half a percent, and their products within one."""
    requests, nodes = mixed_schedule().mix(first + np.arange(2000, dtype=np.int64))
    assert shares_of(requests, 3) == pytest.approx([0.40, 0.55, 0.05], abs=0.005)
    assert shares_of(nodes, 2) == pytest.approx([0.75, 0.25], abs=0.005)
    expected = np.outer([0.40, 0.55, 0.05], [0.75, 0.25]).ravel()
    assert shares_of(requests * 2 + nodes, 6) == pytest.approx(expected, abs=0.01)


def test_the_mix_is_kept_in_every_share() -> None:
    """2,000 arrivals of a share of any N up to 128 hold weights within 3 %."""
    schedule = mixed_schedule()
    for modulus in range(1, 129):
        sequences = modulus // 2 + modulus * np.arange(2000, dtype=np.int64)
        requests, nodes = schedule.mix(sequences)
        assert shares_of(requests, 3) == pytest.approx([0.40, 0.55, 0.05], abs=0.03)
        assert shares_of(nodes, 2) == pytest.approx([0.75, 0.25], abs=0.03)


def test_arrivals_and_mix_agree() -> None:
    """`mix` gives the same request and node as `arrivals`: closed load uses it alone."""
    plan = good_plan(nodes=(node("a"), node("b")), requests=(request("x"), request("y")))
    arrivals = whole_of(plan)
    requests, nodes = Schedule(plan).mix(arrivals.sequences)
    assert requests.tolist() == arrivals.requests.tolist()
    assert nodes.tolist() == arrivals.nodes.tolist()


def test_rates_and_connections_follow_the_stages() -> None:
    """`rate_per_s` is the level of open load, `connections_at` that of closed load."""
    shapes = stages(("up", 10.0, Ramp(start=0.0, end=100.0)), ("hold", 10.0, Hold(level=100.0)))
    opened = Schedule(good_plan(of_stages=shapes))
    closed = Schedule(good_plan(of_stages=shapes, load_model=LoadModel.CLOSED))
    at = [-1, 0, 5 * NS_PER_S, 15 * NS_PER_S, 20 * NS_PER_S]
    assert [opened.rate_per_s(t) for t in at] == [0.0, 0.0, 50.0, 100.0, 0.0]
    assert [closed.connections_at(t) for t in at] == [0, 0, 50, 100, 0]
    assert [opened.connections_at(t) for t in at] == [0] * 5
    assert [closed.rate_per_s(t) for t in at] == [0.0] * 5


def test_closed_load_plans_no_arrivals() -> None:
    """A closed plan has no arrivals: `planned` is 0 and totals are 0."""
    plan = good_plan(load_model=LoadModel.CLOSED)
    schedule = Schedule(plan)
    assert len(schedule.arrivals(WHOLE, 0, plan.duration_ns)) == 0
    assert schedule.planned(WHOLE, 0, plan.duration_ns) == 0
    assert schedule.totals == (0,)


def test_a_wave_that_touches_zero_is_solved() -> None:
    """At the trough of a wave of level 0 times still rise and stay in their stage."""
    profile = Sine(mean=1e6, amplitude=1e6, period_ns=NS_PER_S)
    plan = good_plan(of_stages=stages(("s", 1.0, profile)))
    offsets = whole_of(plan).offsets_ns
    assert offsets.size == 1_000_000
    assert np.all(np.diff(offsets) >= 0)
