"""Objectives: the grammar, and the one evaluation of a measure."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan.model import Comparison, MeasureKind, Objective
from loadtests.plan.objectives import (
    RateReference,
    is_met,
    parse_abort,
    parse_alert,
    parse_measure,
    parse_objective,
    required_samples,
    samples_of,
    value_of,
)
from loadtests.plan.units import UnitError
from loadtests.record.histogram import LENGTH, Histogram
from loadtests.record.tally import Tally, tally_of
from loadtests.record.window import Count, Kind, Window, merge_windows

REST = RateReference(baselines={"rest": 776_000.0, "small": 10.0}, default="rest")


def tally(
    *,
    ok: int = 0,
    client_error: int = 0,
    failed: int = 0,
    planned: int = 0,
    dropped: int = 0,
    response_ms: tuple[int, ...] = (),
    failed_ms: tuple[int, ...] = (),
    errors: Mapping[str, int] = MappingProxyType({}),
) -> Tally:
    """A tally of the given counts and latencies; service times are half the response times."""
    counters = np.zeros(len(Count), dtype=np.int64)
    counters[Count.OK], counters[Count.CLIENT_ERROR] = ok, client_error
    counters[Count.FAILED], counters[Count.PLANNED] = failed, planned
    counters[Count.DROPPED] = dropped
    response = np.array(response_ms, dtype=np.int64) * 1_000_000
    failed_response = np.array(failed_ms, dtype=np.int64) * 1_000_000
    return Tally(
        counters=counters,
        response=Histogram.of_ns(response),
        service=Histogram.of_ns(response // 2),
        failed_response=Histogram.of_ns(failed_response),
        failed_service=Histogram.of_ns(failed_response // 2),
        send_lag=Histogram.empty(),
        errors=errors,
    )


@pytest.mark.parametrize(
    ("text", "kind", "quantile", "limit"),
    [
        ("p95 < 200 ms", MeasureKind.RESPONSE_QUANTILE, 0.95, 200e6),
        ("p99.9 < 1 s", MeasureKind.RESPONSE_QUANTILE, 0.999, 1e9),
        ("  p50<=1ms ", MeasureKind.RESPONSE_QUANTILE, 0.5, 1e6),
        ("service_p99 < 5 ms", MeasureKind.SERVICE_QUANTILE, 0.99, 5e6),
        ("failed_p99 < 1 s", MeasureKind.FAILED_RESPONSE_QUANTILE, 0.99, 1e9),
        ("done_p99 < 1 s", MeasureKind.DONE_RESPONSE_QUANTILE, 0.99, 1e9),
        ("max < 10 s", MeasureKind.RESPONSE_MAX, None, 1e10),
        ("error_ratio < 0.1 %", MeasureKind.ERROR_RATIO, None, 0.001),
        ("slo_error_ratio < 0.01 %", MeasureKind.SLO_ERROR_RATIO, None, 0.0001),
        ("success_ratio > 99.9 %", MeasureKind.SUCCESS_RATIO, None, 0.999),
        ("dropped_ratio <= 0 %", MeasureKind.DROPPED_RATIO, None, 0.0),
        ("throughput >= 776000 rps", MeasureKind.THROUGHPUT, None, 776_000.0),
        ("throughput >= 50 %", MeasureKind.THROUGHPUT, None, 388_000.0),
        ("goodput > 90 % of small", MeasureKind.GOODPUT, None, 9.0),
        ("pool_use <= 80 %", MeasureKind.POOL_USE, None, 0.8),
    ],
)
def test_an_objective_means_what_it_says(
    text: str, kind: MeasureKind, quantile: float | None, limit: float
) -> None:
    """Each measure takes its own unit and keeps the author's words."""
    objective = parse_objective(text, REST)
    assert (objective.measure.kind, objective.measure.quantile) == (kind, quantile)
    assert objective.limit == pytest.approx(limit, rel=1e-15)
    assert objective.text == " ".join(text.split())
    assert (objective.request, objective.stage) == (None, None)


def test_request_and_stage_narrow_an_objective() -> None:
    """`on` names a request, `in` a stage, in this order."""
    objective = parse_objective("p95 < 1 s on submit in peak-2")
    assert (objective.request, objective.stage) == ("submit", "peak-2")
    assert parse_objective("p95 < 1 s in peak").stage == "peak"
    assert parse_objective("throughput >= 90 % of rest on a", REST).request == "a"


@pytest.mark.parametrize(
    "text",
    ["", "p95", "p95 200 ms", "p95 < ", "p95 = 200 ms", "p95 == 200 ms", "p95 =< 200 ms",
     "p0 < 1 s", "p100 < 1 s", "p-5 < 1 s", "p99.99999999 < 1 s", "P95 < 1 s", "q95 < 1 s",
     "p95 < 200", "p95 < 5 %", "p95 < 5 rps", "error_ratio < 5", "error_ratio < 101 %",
     "throughput >= 5", "throughput >= 5 ms", "throughput >= 1e308 rps", "p95 < nan s",
     "throughput >= 5 % of none", "pool_use <= 80", "pool_use <= 101 %",
     "pool_use <= 80 % on a", "pool_use <= 80 % for 5 s", "pool_use >= 80 %",
     "p95 < 1 s in a on b", "p95 < 1 s for 3 s",
     "p95 > 1 s", "throughput < 5 rps", "success_ratio < 99 %", "p95 < 1 s, p99 < 2 s"],
)  # fmt: skip
def test_anything_else_is_not_an_objective(text: str) -> None:
    """Wrong units, unknown measures and comparisons that point the wrong way are refused."""
    with pytest.raises(UnitError, match="expected"):
        parse_objective(text, REST)


@given(st.text(max_size=60))
def test_any_text_is_an_objective_or_a_unit_error(text: str) -> None:
    """No text crashes the parser, or takes it long."""
    for parse in (parse_objective, parse_alert, parse_abort):
        with contextlib.suppress(UnitError):  # any other error fails the test
            assert parse(text)


def test_a_percentage_needs_a_baseline() -> None:
    """Without a named or default baseline a percentage of throughput means nothing."""
    with pytest.raises(UnitError, match="a baseline"):
        parse_objective("throughput >= 90 %")


def test_aborts_have_a_sustain() -> None:
    """An abort condition is bad when true and names how long it must last."""
    abort = parse_abort("error_ratio > 5 % on submit for 30 s")
    assert abort.sustain_ns == 30_000_000_000
    assert (abort.objective.limit, abort.objective.request) == (0.05, "submit")
    assert parse_alert("throughput < 80 % of rest", REST).limit == pytest.approx(620_800)
    for wrong in ("error_ratio > 5 %", "error_ratio > 5 % for 10 ms", "error_ratio < 5 % for 9 s"):
        with pytest.raises(UnitError):
            parse_abort(wrong)


def test_alerts_on_the_pool_may_have_a_sustain() -> None:
    """How long a level lasted is said of a level alone; a sum over requests has the stage."""
    assert parse_alert("pool_use > 90 % for 5 min").sustain_ns == 300_000_000_000
    assert parse_alert("pool_use > 90 % in peak").sustain_ns == 0
    assert parse_abort("pool_use >= 100 % for 10 s").objective.sustain_ns == 0
    for wrong in ("error_ratio > 5 % for 5 min", "pool_use > 90 % for 10 ms"):
        with pytest.raises(UnitError):
            parse_alert(wrong)


def test_the_pool_has_no_value_among_requests() -> None:
    """It is read from the engines' health; asking a tally for it is a fault of ours."""
    with pytest.raises(ValueError, match="level at a time"):
        value_of(parse_measure("pool_use"), tally(ok=1), 1.0)


@pytest.mark.parametrize(
    ("comparison", "below", "equal", "above"),
    [
        (Comparison.BELOW, True, False, False),
        (Comparison.AT_MOST, True, True, False),
        (Comparison.ABOVE, False, False, True),
        (Comparison.AT_LEAST, False, True, True),
    ],
)
def test_comparisons_are_exact(
    comparison: Comparison, *, below: bool, equal: bool, above: bool
) -> None:
    """A value at its limit meets `<=` and `>=` only; infinity and NaN meet no upper limit."""
    objective = Objective(
        text="",
        measure=parse_measure("max"),
        comparison=comparison,
        limit=10.0,
        request=None,
        stage=None,
    )
    assert [is_met(objective, value) for value in (9.0, 10.0, 11.0)] == [below, equal, above]
    assert is_met(objective, math.inf) == above
    assert not is_met(objective, math.nan)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("error_ratio", 0.25),
        ("slo_error_ratio", 0.15),
        ("success_ratio", 0.75),
        ("dropped_ratio", 0.2),
        ("throughput", 10.0),
        ("goodput", 7.5),
    ],
)
def test_ratios_and_rates_follow_their_definitions(text: str, value: float) -> None:
    """75 ok, 10 client errors and 15 failures of 125 planned in 10 s, 25 dropped."""
    errors = {"status_404": 10, "status_503": 13, "check": 2}
    counted = tally(ok=75, client_error=10, failed=15, planned=125, dropped=25, errors=errors)
    assert value_of(parse_measure(text), counted, 10.0) == pytest.approx(value)


def test_percentiles_are_over_ok_requests() -> None:
    """Failed requests have histograms of their own: they cannot flatter a percentile."""
    counted = tally(
        ok=4,
        failed=2,
        response_ms=(10, 20, 30, 40),
        failed_ms=(1, 5000),
        errors={"status_503": 2},
    )
    for text, value_ms in (
        ("p50", 20), ("p75", 30), ("service_p50", 10), ("failed_p50", 1), ("done_p50", 20),
        ("done_p99", 5000), ("max", 5000),
    ):  # fmt: skip
        value = value_of(parse_measure(text), counted, 1.0)
        assert value == pytest.approx(value_ms * 1e6, rel=0.002)


@pytest.mark.parametrize(
    "text",
    [
        "p95",
        "service_p95",
        "failed_p95",
        "done_p95",
        "max",
        "error_ratio",
        "dropped_ratio",
        "throughput",
        "goodput",
        "success_ratio",
        "slo_error_ratio",
    ],
)
def test_no_data_is_no_value(text: str) -> None:
    """Nothing counted is None, never 0 and never a pass."""
    assert value_of(parse_measure(text), tally(), 10.0) is None
    assert samples_of(parse_measure(text), tally()) == 0


@pytest.mark.parametrize(
    ("errors", "per_s"),
    [
        ({"status_500": 3, "status_404": 2, "check": 4, "grpc_14": 1}, 10.0),
        ({"timeout": 10}, 0.0),
        ({"connect_refused": 4, "reset": 3, "closed": 2, "no_connection": 1}, 0.0),
        ({"protocol": 5, "status_503": 5}, 5.0),
        ({"other": 10}, 0.0),
    ],
)
def test_throughput_is_of_complete_responses(errors: dict[str, int], per_s: float) -> None:
    """Whatever a response says it counts; what is none never does."""
    counted = tally(failed=10, planned=10, errors=errors)
    assert value_of(parse_measure("throughput"), counted, 1.0) == per_s
    assert value_of(parse_measure("goodput"), counted, 1.0) == 0.0


@pytest.mark.parametrize(
    ("text", "errors", "value_ms"),
    [
        ("done_p90", {"timeout": 1}, 20),  # at most n - ceil(q n) may be without an answer
        ("done_p91", {"timeout": 1}, math.inf),
        ("done_p90", {"connect_refused": 1}, 20),
        ("done_p91", {"reset": 1}, math.inf),
        ("max", {"no_connection": 1}, math.inf),
        ("max", {"status_503": 1}, 5000),
    ],
)
def test_a_request_never_answered_is_later_than_any_answer(
    text: str, errors: dict[str, int], value_ms: float
) -> None:
    """Nine answers of 10 or 20 ms and one failed after 5 s."""
    counted = tally(
        ok=9, failed=1, response_ms=(*(10,) * 4, *(20,) * 5), failed_ms=(5000,), errors=errors
    )
    value = value_of(parse_measure(text), counted, 1.0)
    assert value == pytest.approx(value_ms * 1e6, rel=0.002)


@pytest.mark.parametrize(
    ("errors", "value_ms"),
    [
        ({"connect_refused": 6, "status_503": 4}, 300),  # the refused may be the fast ones
        ({"timeout": 4, "status_503": 6}, 1),  # those that waited are the slow ones
        ({"status_503": 10}, 1),
    ],
)
def test_fast_refusals_do_not_flatter_the_answers(errors: dict[str, int], value_ms: int) -> None:
    """Six failed within 1 ms and four after 300 ms: what the slow ones were decides."""
    counted = tally(failed=10, failed_ms=(*(1,) * 6, *(300,) * 4), errors=errors)
    value = value_of(parse_measure("done_p40"), counted, 1.0)
    assert value == pytest.approx(value_ms * 1e6, rel=0.002)


def test_a_silent_target_has_a_throughput_of_zero() -> None:
    """Planned but unanswered is data: the rate is 0."""
    assert value_of(parse_measure("throughput"), tally(planned=100), 1.0) == 0.0


def test_latencies_beyond_the_histogram_are_infinite() -> None:
    """A percentile in the overflow counter meets no limit."""
    counts = np.zeros(LENGTH, dtype=np.int64)
    counts[-1] = 1
    counted = dataclasses.replace(tally(ok=1), response=Histogram(counts=counts))
    value = value_of(parse_measure("p99"), counted, 1.0)
    assert value == math.inf
    assert not is_met(parse_objective("p99 < 1 h"), value)


@pytest.mark.parametrize(("quantile", "n"), [(0.95, 90), (0.99, 459), (0.999, 4603), (0.5, 7)])
def test_required_samples_are_the_zero_late_rule(quantile: float, n: int) -> None:
    """The smallest n with q**n <= 1 %: 90, 459 and 4,603 as the law says."""
    assert required_samples(quantile) == n
    exact = Fraction(str(quantile))
    assert exact**n <= Fraction(1, 100) < exact ** (n - 1)


def test_a_tally_sums_the_slots_asked_for() -> None:
    """Counters and histograms of other slots stay out; merged windows add."""

    def window(slot: int, latency_ms: int) -> Window:
        bucket = int(np.flatnonzero(Histogram.of_ns(np.array([latency_ms * 1_000_000])).counts)[0])
        counters = np.zeros((1, len(Count)), dtype=np.int64)
        counters[0, Count.OK] = 1
        return dataclasses.replace(
            Window.empty(5),
            slots=np.array([slot], dtype=np.uint32),
            counters=counters,
            keys=np.array([(slot * len(Kind) + Kind.RESPONSE) * LENGTH + bucket], dtype=np.uint32),
            counts=np.array([1], dtype=np.int64),
        )

    merged = merge_windows(5, [window(0, 10), window(2, 20), window(2, 30), window(3, 40)])
    summed = tally_of(merged, [0, 2, 7])
    assert (summed.count(Count.OK), summed.done, summed.response.n) == (3, 3, 3)
    assert summed.response.max_us() == pytest.approx(30_000, rel=0.002)
    assert tally_of(merged, []).done == 0
    both = tally_of(merged, [0]) + tally_of(merged, [2])
    assert both.counters.tolist() == tally_of(merged, [0, 2]).counters.tolist()
