"""Behaviours: their text form and the decisions of a gate."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.behaviour import PLAIN, Gate, Latency, Shape, Stall, parse_behaviour
from loadtests.errors import ScenarioError

DRAWS = 20_000


def draws(text: str) -> list[int]:
    latency = parse_behaviour(f"latency={text}").latency
    assert latency is not None
    source = random.Random(7)
    return sorted(latency.draw_ns(source) for _ in range(DRAWS))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latency=fixed:5ms",
        "latency=exponential:250us,seed=3",
        "latency=lognormal:5ms:0.5,errors=0.01:500",
        "latency=uniform:1ms:10ms,slow-accept=100ms",
        "latency=two-point:1ms:100ms:0.01,stall=2s:1s:10s,max-rate=500.0",
        "stall=500ms:1s",
    ],
)
def test_text_form_is_kept(text: str) -> None:
    """A behaviour's text form is what it was parsed from."""
    assert str(parse_behaviour(text)) == text


@given(
    st.integers(0, 600 * NS_PER_S).map(lambda ns: ns // 1000 * 1000),
    st.integers(0, NS_PER_S).map(lambda ns: ns // 1000 * 1000),
    st.integers(0, 2**40),
)
def test_any_duration_survives_its_text(first_ns: int, more_ns: int, seed: int) -> None:
    """Whatever whole microseconds go into a text come out of it."""
    first_ns = min(first_ns, 599 * NS_PER_S)
    latency = Latency(
        shape=Shape.UNIFORM, first_ns=first_ns, second_ns=first_ns + more_ns, number=0.0
    )
    text = f"latency={latency},seed={seed}"
    assert parse_behaviour(text).latency == latency


def test_every_mistake_is_told_at_once() -> None:
    """All mistakes of a text are in one error, each with its key and what was expected."""
    with pytest.raises(ScenarioError) as caught:
        parse_behaviour("latency=fixd:5ms,errors=2:503,stall=1s,color=red,max-rate=nan,seed=-1")
    assert [one.where for one in caught.value.mistakes] == [
        "latency",
        "errors",
        "stall",
        "color",
        "max-rate",
        "seed",
    ]
    assert "exponential" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "latency=fixed:5",
        "latency=fixed:5ms:1",
        "latency=uniform:5ms:1ms",
        "latency=fixed:601s",
        "latency=two-point:1ms:2ms:1.5",
        "errors=0.1:404",
        "errors=nan",
        "stall=1s:2s:1s",
    ],
)
def test_wrong_values_are_refused(text: str) -> None:
    """A unit, a count of parameters or a range that is wrong is a mistake, never a default."""
    with pytest.raises(ScenarioError):
        parse_behaviour(text)


def test_exponential_has_its_quantiles() -> None:
    """Quantile q of an exponential latency is -mean * ln(1 - q)."""
    values = draws("exponential:5ms")
    for q in (0.5, 0.9, 0.99):
        expected_ns = -5 * NS_PER_MS * math.log(1 - q)
        assert values[int(q * DRAWS)] == pytest.approx(expected_ns, rel=0.06)


def test_lognormal_has_its_quantiles() -> None:
    """Quantile q of a lognormal latency is median * exp(sigma * z(q))."""
    values = draws("lognormal:5ms:0.5")
    for q in (0.5, 0.9, 0.99):
        expected_ns = 5 * NS_PER_MS * math.exp(0.5 * statistics.NormalDist().inv_cdf(q))
        assert values[int(q * DRAWS)] == pytest.approx(expected_ns, rel=0.06)


def test_uniform_and_two_point_keep_their_bounds() -> None:
    """A uniform latency lies within its bounds; a two-point one takes the rare value in ratio."""
    values = draws("uniform:1ms:10ms")
    assert values[0] >= 1 * NS_PER_MS
    assert values[-1] <= 10 * NS_PER_MS
    assert values[DRAWS // 2] == pytest.approx(5.5 * NS_PER_MS, rel=0.03)
    values = draws("two-point:1ms:100ms:0.1")
    assert set(values) == {1 * NS_PER_MS, 100 * NS_PER_MS}
    assert values.count(100 * NS_PER_MS) / DRAWS == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("stall", "due_s", "leaves_s"),
    [
        ((2, 1, 0), 1.9, 1.9),  # before
        ((2, 1, 0), 2.0, 3.0),  # its first moment
        ((2, 1, 0), 2.9, 3.0),  # inside
        ((2, 1, 0), 3.0, 3.0),  # its end
        ((2, 1, 0), 50.0, 50.0),  # once only
        ((2, 1, 10), 12.5, 13.0),  # the second one
        ((2, 1, 10), 14.0, 14.0),  # between
    ],
)
def test_stall_holds_answers_to_its_end(
    stall: tuple[int, int, int], due_s: float, leaves_s: float
) -> None:
    """An answer due inside a stall leaves at its end, any other when it is due."""
    at_s, for_s, every_s = stall
    made = Stall(at_ns=at_s * NS_PER_S, for_ns=for_s * NS_PER_S, every_ns=every_s * NS_PER_S)
    assert made.end_ns(round(due_s * NS_PER_S)) == round(leaves_s * NS_PER_S)


def test_stall_counts_from_the_first_service_request() -> None:
    """Health probes before the load do not start the clock of a stall, and are held by it too."""
    gate = Gate(parse_behaviour("stall=0s:1s"))
    assert gate.leave_ns(500, service=False) == 500
    assert gate.refuse_status(1_000) is None
    assert gate.leave_ns(1_000, service=True) == 1_000 + NS_PER_S
    assert gate.leave_ns(2_000, service=False) == 1_000 + NS_PER_S


def test_limiter_never_lets_more_than_its_rate_through() -> None:
    """In any stretch a limiter passes at most burst + rate * time, and the rate in the long run."""
    gate = Gate(parse_behaviour("max-rate=100"))
    passed = [ms for ms in range(10_000) if gate.refuse_status(ms * NS_PER_MS) is None]
    assert len(passed) == pytest.approx(100 * 10 + 10, abs=2)
    for start in range(0, 9_000, 100):
        assert sum(start <= ms < start + 1_000 for ms in passed) <= 100 + 10


def test_errors_come_in_ratio_and_repeat_with_the_seed() -> None:
    """The same seed refuses the same requests; the ratio is kept."""
    fates = []
    for _ in range(2):
        gate = Gate(parse_behaviour("errors=0.25:500,seed=9"))
        fates.append([gate.refuse_status(one) for one in range(10_000)])
    assert fates[0] == fates[1]
    assert fates[0].count(500) / 10_000 == pytest.approx(0.25, abs=0.02)


def test_plain_changes_nothing() -> None:
    """A plain node neither refuses nor delays, and is known to be plain."""
    gate = Gate(PLAIN)
    assert gate.refuse_status(5) is None
    assert gate.leave_ns(5, service=True) == 5
    assert not PLAIN.changes_answers()
    assert parse_behaviour("errors=0.1").changes_answers()
