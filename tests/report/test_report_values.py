"""What a report computes: seconds, envelopes, spectra, heat maps, intervals, targets."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from report_runs import FAULT_S, eventful_plan, eventful_run, eventful_traces, facts_of
from synthetic_run import S, good_plan, good_traces, with_objectives, write_run

from analysis.blocks import Blocks, load_blocks
from analysis.figures import build_figures
from analysis.report.envelope import POINTS, build_envelope, step_for
from analysis.report.facts import ReportFacts
from analysis.report.heat import build_heat_map
from analysis.report.requirement import Demand, Shown, compare_with_requirement, load_demands
from analysis.report.rows import added_up, chunks_of, judged_rows
from analysis.report.seconds import build_seconds
from analysis.report.spectrum import build_spectrum, carried_quantile
from analysis.text import ratio
from analysis.verdict import AlertState, judge, plan_of
from loadtests.plan.objectives import parse_alert, parse_objective, required_samples
from loadtests.record.archive import Run
from loadtests.record.histogram import Histogram
from loadtests.record.window import Count, Kind


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two stages, a fault, errors."""
    return eventful_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def facts(run: Run) -> ReportFacts:
    """What is reported of it."""
    return facts_of(run)


def test_seconds_add_up_to_the_run(run: Run) -> None:
    """Each counter's seconds sum to the archive's, and the stalled seconds are 0, not unknown."""
    seconds = build_seconds(run)
    total = run.manifest.total_sums
    assert total is not None
    assert seconds.counts[Count.PLANNED].sum() == total.planned
    assert seconds.counts[Count.OK].sum() == total.ok
    assert seconds.counts[Count.FAILED].sum() == total.failed
    stalled = FAULT_S + 1
    assert seconds.answered[stalled] == 0
    assert seconds.in_flight[stalled] > seconds.in_flight[FAULT_S - 5]
    assert seconds.response_max_us[FAULT_S + 2] >= 1.9e6


def test_a_second_that_nobody_reported_is_unknown(tmp_path: Path) -> None:
    """A hole in the archive is no zero."""
    run = write_run(tmp_path, change_window=lambda w: None if w.start_s % 10 == 5 else w)
    seconds = build_seconds(run)
    holes = np.flatnonzero((seconds.first_s + np.arange(len(seconds))) % 10 == 5)
    assert holes.size
    assert np.isnan(seconds.counts[Count.SENT][holes]).all()
    assert np.isnan(seconds.in_flight[holes]).all()
    assert not np.isnan(seconds.counts[Count.SENT]).all()


@given(
    values=arrays(
        np.float64,
        st.integers(0, 400),
        elements=st.one_of(st.floats(0, 1e9), st.just(float("nan")), st.just(float("inf"))),
    ),
    step_s=st.integers(1, 50),
)
def test_thinning_keeps_every_extreme(values: np.ndarray, step_s: int) -> None:
    """The highest and lowest second of each point are there, and unknown is no number."""
    thin = build_envelope(values, step_s)
    for at in range(thin.low.size):
        own = values[at * step_s : (at + 1) * step_s]
        known = own[~np.isnan(own)]
        if not known.size:
            assert np.isnan([thin.low[at], thin.high[at], thin.mean[at]]).all()
            continue
        assert (thin.low[at], thin.high[at]) == (known.min(), known.max())
        assert thin.low[at] <= thin.mean[at] * (1 + 1e-9)
        assert thin.mean[at] <= thin.high[at] * (1 + 1e-9)


@given(st.integers(0, 200_000))
def test_no_series_has_more_points_than_a_figure_can_show(seconds: int) -> None:
    """The step makes at most POINTS points of any run."""
    assert -(-seconds // step_for(seconds)) <= POINTS


@given(st.integers(1, 3_000_000))
def test_the_carried_quantile_is_the_zero_late_rule_turned_round(samples: int) -> None:
    """It needs no more samples than there are, and a little more would be too much."""
    quantile = carried_quantile(samples)
    assert required_samples(quantile) <= samples
    assert required_samples(1 - (1 - quantile) * 0.98) > samples


def test_a_spectrum_is_the_histogram(run: Run) -> None:
    """Every point is the histogram's own quantile, and the last one its maximum."""
    histogram = build_figures(run)[2].overall.tally.response
    spectrum = build_spectrum(histogram)
    expected = [histogram.quantile_us(q) if q else histogram.quantile_us(1e-9)
                for q in spectrum.quantiles.tolist()]  # fmt: skip
    assert spectrum.values_us.tolist() == expected
    assert spectrum.values_us[-1] == histogram.max_us()
    assert build_spectrum(Histogram.empty()).quantiles.size == 0


@pytest.fixture(scope="module")
def overall(run: Run) -> Blocks:
    """All requests of the second judged stage."""
    return load_blocks(run, kind=Kind.RESPONSE, judged=False)["high", None]


def test_a_heat_map_counts_every_request(run: Run, overall: Blocks) -> None:
    """No sample is outside of its cells."""
    seconds = build_seconds(run)
    heat = build_heat_map([overall], seconds.first_s, len(seconds))
    assert heat is not None
    assert heat.counts.sum() == overall.histogram().n
    top = heat.counts[:, FAULT_S + 2]
    assert heat.edges_us[int(np.flatnonzero(top)[-1]) + 1] >= 1.9e6
    assert build_heat_map([], 0, 10) is None


def test_rows_added_up_and_in_chunks_are_the_same_samples(run: Run, overall: Blocks) -> None:
    """Neither loses a sample; judged rows are the judged total."""
    whole = overall.histogram().counts
    few = added_up(overall, 7)
    assert len(few) <= 7
    assert np.array_equal(few.histogram().counts, whole)
    assert np.array_equal(sum(c.histogram().counts for c in chunks_of(overall)), whole)
    judged = judged_rows(overall, run.manifest, run.slots.stages.index("high"))
    expected = build_figures(run)[2].overall.tally.response
    assert np.array_equal(judged.histogram().counts, expected.counts)


def test_every_row_of_the_worst_seconds_can_be_looked_up(run: Run, facts: ReportFacts) -> None:
    """The row number leads to the row whose column has the value."""
    table = next(table for table in facts.tables if table.name == "extremes")
    rows = [{c.key: cell.value for c, cell in zip(table.columns, row, strict=True)}
            for row in table.rows]  # fmt: skip
    assert {row["what"] for row in rows} >= {"latest answer", "most errors in a second"}
    for row in rows:
        found = run.windows.iloc[int(str(row["row"]))]
        assert float(found[str(row["column"])]) == row["value"]
        assert found["request"] == row["request"]


def test_intervals_are_wide_where_one_event_made_the_value(facts: ReportFacts) -> None:
    """One stall is one event: the p99 that it made may as well be some ten milliseconds."""
    table = next(table for table in facts.tables if table.name == "objectives")
    at = [column.key for column in table.columns].index("interval")
    texts = {(row[0].text, row[1].text): row[at].text for row in table.rows}
    steady = texts["low", "p95 < 200 ms"]  # of a minute: at times too few blocks are left
    found = re.fullmatch(r"([\d.]+) ms to ([\d.]+) ms|n too small \(\d+ of \d+ windows\)", steady)
    assert found, steady
    if found[1]:
        assert 20 < float(found[1]) < float(found[2]) < 50
    stalled = texts["high", "p99 < 500 ms"]
    assert re.fullmatch(r"[\d.]+ (us|ms) to ([\d.]+ s|> 1 h)", stalled), stalled
    rate = texts["high", "throughput >= 55 rps"]
    assert re.fullmatch(r"[\d.]+ rps to [\d.]+ rps|n too small \(60 of \d+ windows\)", rate), rate
    assert re.fullmatch(r"[\d.]+ % to [\d.]+ %", texts["low", "error_ratio < 0.1 %"])


def test_a_stage_too_short_for_an_interval_says_so(tmp_path: Path) -> None:
    """Ten seconds do not tell how seconds vary."""
    table = next(t for t in facts_of(write_run(tmp_path)).tables if t.name == "objectives")
    at = [column.key for column in table.columns].index("interval")
    # Eleven: late answers to the last arrivals have a window of their own.
    assert re.fullmatch(r"n too small \(11 of \d+ windows\)", table.rows[0][at].text)


def _demand(rate: str) -> Demand:
    rest = load_demands()[0]
    alerts = (parse_alert("throughput < 300 rps"), *rest.alerts[1:])
    return dataclasses.replace(rest, rate=parse_objective(rate), alerts=alerts)


def _states(run: Run, demand: Demand) -> dict[str, tuple[Shown, AlertState, str]]:
    stages = build_figures(run)
    comparisons = compare_with_requirement(run, plan_of(run), judge(run), stages, [demand])
    return {c.target.text: (c.shown, c.alert_state, c.why) for c in comparisons}


def test_a_target_is_met_at_its_full_rate_alone(tmp_path: Path) -> None:
    """At the rate: met. At less: not shown, and why; the plan never asked for it."""
    run = write_run(tmp_path)
    states = _states(run, _demand("throughput >= 500 rps"))
    assert {shown for shown, _, _ in states.values()} == {Shown.MET}
    assert states["p95 < 200 ms"][1] is AlertState.CLEAR
    states = _states(run, _demand("throughput >= 600 rps"))
    assert {shown for shown, _, _ in states.values()} == {Shown.NOT_SHOWN}
    assert "500.0 rps" in states["p95 < 200 ms"][2]


def test_a_missed_target_is_said_and_its_alert_raised(tmp_path: Path) -> None:
    """Errors beyond the limit are missed at any rate."""
    plan = good_plan()
    traces = good_traces(plan)
    for trace in traces:
        trace.fail(trace.intended_ns % (20 * S) < 3 * S, "status_503")
    states = _states(write_run(tmp_path, plan, traces), _demand("throughput >= 500 rps"))
    assert states["error_ratio < 0.1 %"][:2] == (Shown.MISSED, AlertState.RAISED)


@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_a_scaled_run_never_shows_a_target(tmp_path: Path, scale: float) -> None:
    """Neither met nor missed, and no alert: the scaled run is of something else."""
    run = write_run(tmp_path, good_plan(scale=scale))
    states = _states(run, _demand("throughput >= 500 rps"))
    assert {shown for shown, _, _ in states.values()} == {Shown.NOT_SHOWN}
    assert {alert for _, alert, _ in states.values()} == {AlertState.UNKNOWN}


def test_an_inconclusive_run_shows_no_target(tmp_path: Path) -> None:
    """A generator that was late shows nothing about the target."""
    plan = with_objectives(good_plan(), "p95 < 200 ms")
    traces = good_traces(plan)
    for trace in traces:
        trace.sent_ns = trace.sent_ns + S // 2
        trace.done_ns = trace.done_ns + S // 2
    states = _states(write_run(tmp_path, plan, traces), _demand("throughput >= 500 rps"))
    assert Shown.MET not in {shown for shown, _, _ in states.values()}


def test_the_requirements_own_limits_are_those_of_the_policy() -> None:
    """776,000 and 1,000,000, with the percentiles of each protocol."""
    rest, grpc = load_demands()
    assert (rest.rate.limit, grpc.rate.limit) == (776_000, 1_000_000)
    assert [o.text for o in rest.targets][:2] == ["p95 < 200 ms", "p99 < 500 ms"]
    assert [o.text for o in grpc.targets][:2] == ["p95 < 100 ms", "p99 < 300 ms"]
    assert rest.alerts[0].limit == 600_000
    assert grpc.alerts[0].limit == 800_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9995, "99.95 %"), (0.999999, "99.9999 %"), (1.0, "100 %"), (0.995, "99.5 %"),
     (0.0, "0 %"), (0.99951, "99.95 %")],
)  # fmt: skip
def test_what_is_not_all_is_never_printed_as_all(value: float, text: str) -> None:
    """A success ratio just below 1 keeps the digits that tell it from 1."""
    assert ratio(value) == text


def test_marks_are_events_that_not_every_run_has(facts: ReportFacts) -> None:
    """Losses are marked with their line; joining and finishing are not."""
    over = facts.over_time
    assert over is not None
    assert [(m.number, m.kind) for m in over.timeline.marks] == [
        (2, "agent_lost"), (3, "agent_back"),
    ]  # fmt: skip
    assert [round(m.at_s) for m in over.timeline.marks] == [FAULT_S, FAULT_S + 2]


def test_percentiles_over_time_are_of_merged_histograms(run: Run, facts: ReportFacts) -> None:
    """Each second's p99 is that of all its requests together."""
    over = facts.over_time
    assert over is not None
    blocks = load_blocks(run, kind=Kind.RESPONSE, judged=False)
    values = over.series.percentiles["p99"].high
    second = FAULT_S - 3
    own = blocks["high", None]
    at = int(np.flatnonzero(own.window_s == over.timeline.first_s + second)[0])
    assert values[second] == own.quantiles_us(0.99)[at]
    plan = eventful_plan()
    done = np.concatenate([
        (t.done_ns - t.intended_ns)[(t.done_ns // S == second) & (t.error == "")]
        for t in eventful_traces(plan)
    ])  # fmt: skip
    assert values[second] == Histogram.of_ns(done).quantile_us(0.99)
