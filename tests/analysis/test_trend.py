"""Trends: what stands in a history, what counts as a change, and how it is shown."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from golden_files import compare_golden
from histories import digest, history_of, night, nights_of_p95, row
from rich.console import Console
from scipy.stats import energy_distance
from synthetic_run import MS, S, Trace, good_plan, good_traces, with_objectives, write_run
from test_pages import GOLDEN, HOSTILE

from analysis.baselines import list_baselines, promote
from analysis.trend.change_points import LEAST_LEVEL, find_change_points
from analysis.trend.digests import FOLDER, load_digest, read_digest
from analysis.trend.energy import split_statistics
from analysis.trend.history import build_history
from analysis.trend.pages import show_trend, trend_to_json
from analysis.trend.plot import draw_trend
from analysis.trend.series import State, Trend, build_trend
from analysis.verdict import judge
from loadtests.cli import main
from loadtests.commands.judgement import judge_and_store
from loadtests.commands.terminal import Terminal
from loadtests.commands.trend import change_notes
from loadtests.errors import ExitCode, ScenarioError
from loadtests.plan.model import Hold, Plan, Stage
from loadtests.record.archive import Run, list_runs

# Apache Otava's own example of a series with one change, tests/analysis_test.py there.
OTAVAS_SERIES = (1.02, 0.95, 0.99, 1.00, 1.12, 1.00, 1.01, 0.98, 1.01, 0.96,
                 0.50, 0.51, 0.48, 0.48, 0.55, 0.50, 0.49, 0.51, 0.50, 0.49)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_the_split_statistic_is_scipys_energy_distance(seed: int) -> None:
    """Q(t, k) = t m / (t + m) * D^2 with scipy's D, for every t and k, ties included."""
    random = np.random.default_rng(seed)
    values = np.round(random.normal(size=14), seed % 3)
    orders = np.argsort(random.random((3, 14)), axis=1)
    statistics = split_statistics(values, orders, 2)
    for at, order in enumerate(orders):
        for t in range(2, 13):
            for k in range(4, 15):
                x, y = values[order][:t], values[order][t:k]
                scale = t * len(y) / k
                expected = scale * energy_distance(x, y) ** 2 if len(y) >= 2 else 0.0
                assert statistics[at, t - 2, k - 4] == pytest.approx(expected, abs=1e-9)


def test_otavas_example_has_its_one_change() -> None:
    """The level halves at position 10 and nowhere else."""
    (point,) = find_change_points(np.log(OTAVAS_SERIES))
    assert (point.index, point.p_value < 0.01) == (10, True)


@pytest.mark.parametrize("at", range(20))
def test_a_single_spike_is_no_change(at: int) -> None:
    """Wherever it is, the newest night included."""
    values = np.random.default_rng(4).normal(0, 0.02, 20)
    assert find_change_points(values) == ()
    values[at] += np.log(3)
    assert find_change_points(values) == ()


def test_a_change_that_did_not_last_has_two_edges() -> None:
    """Four slow nights among 24: where they begin and where they end."""
    values = np.random.default_rng(3).normal(0, 0.01, 24)
    values[12:16] += 0.1
    assert [point.index for point in find_change_points(values)] == [12, 16]


def test_the_same_history_gives_the_same_changes() -> None:
    """Orders are drawn from a fixed seed."""
    values = np.random.default_rng(8).normal(0, 0.02, 40)
    values[25:] += 0.06
    first = find_change_points(values)
    assert first == find_change_points(values)
    assert [point.index for point in first] == [25]


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 30, [1.0] * 5])
def test_nothing_to_compare_is_no_change(values: list[float]) -> None:
    """Too short a series, and one that never varies."""
    assert find_change_points(np.array(values)) == ()


def shifted(by: float, nights: int = 20, noise: float = 0.01) -> Trend:
    """A p95 that rises by a factor for its last `LEAST_LEVEL` nights."""
    values = np.exp(np.random.default_rng(1).normal(0, noise, nights)) * 29_000
    values[-LEAST_LEVEL:] *= 1 + by
    return build_trend(history_of(nights_of_p95(values)), 0.05)


def test_a_shift_is_told_with_its_size_direction_and_first_run() -> None:
    """One series of five changed; before and after are medians."""
    trend = shifted(0.1)
    changed = [series for series in trend.series if series.changes]
    assert [series.metric.key for series in changed] == ["p95"]
    (change,) = changed[0].changes
    assert change.first.run_id == trend.history.runs[17].run_id
    assert change.is_worse
    assert change.size == pytest.approx(0.1, abs=0.02)
    assert change.runs_after == 3
    expected = np.std(np.random.default_rng(1).normal(0, 0.01, 20), ddof=1)
    assert changed[0].noise == pytest.approx(expected, rel=0.15)


def test_a_faster_night_is_better_and_a_lower_throughput_worse() -> None:
    """Direction is the metric's."""
    assert not next(s for s in shifted(-0.1).series if s.changes).changes[0].is_worse
    rates = [500.0] * 12 + [400.0] * 8
    nights = [night(at, row(throughput_per_s=value)) for at, value in enumerate(rates)]
    (series,) = [s for s in build_trend(history_of(nights), 0.05).series if s.changes]
    assert (series.metric.key, series.changes[0].is_worse) == ("throughput", True)


def test_a_change_that_nobody_cares_about_is_none() -> None:
    """Significant and below 1 %: an open load's throughput is that steady."""
    rates = [500.0, 500.1] * 8 + [500.5, 500.6] * 8
    nights = [night(at, row(throughput_per_s=value)) for at, value in enumerate(rates)]
    series = next(s for s in build_trend(history_of(nights), 0.05).series
                  if s.metric.key == "throughput")  # fmt: skip
    assert len(find_change_points(np.log(rates))) == 1
    assert (series.state, series.changes) == (State.STEADY, ())


def test_an_error_ratio_may_rise_from_nothing() -> None:
    """Its change is a difference: there is no ratio to 0."""
    ratios = [0.0] * 12 + [0.002, 0.0021, 0.0019, 0.002]
    nights = [night(at, row(error_ratio=value)) for at, value in enumerate(ratios)]
    (series,) = [s for s in build_trend(history_of(nights), 0.05).series if s.changes]
    assert series.metric.key == "error_ratio"
    assert series.changes[0].size == pytest.approx(0.002)


def test_values_that_may_not_be_relied_on_are_missing() -> None:
    """What is too small a sample is counted, and with fewer than ten values nothing is said."""
    nights = [night(at, row(p99_us=None if at % 2 else 30_000.0)) for at in range(14)]
    trend = build_trend(history_of(nights), 0.05)
    p99 = next(series for series in trend.series if series.metric.key == "p99")
    assert (len(p99.points), p99.missing, p99.state) == (7, 7, State.TOO_FEW)
    assert trend.has_enough_runs
    assert not build_trend(history_of(nights[:9]), 0.05).has_enough_runs


def test_only_comparable_runs_stand_in_a_history() -> None:
    """Others are named with what differs; the newest usable run decides."""
    others = {
        "scale 0.5 instead of 1": night(1, scale=0.5, load_sha256="x"),
        "closed load instead of open": night(2, load_model="closed"),
        "another mix of requests": night(3, mix_sha256="x"),
        "other stages or rates": night(4, load_sha256="x"),
    }
    usable = [night(at) for at in range(5, 8)]
    digests = [digest(one) for one in (*others.values(), *usable, night(9, scenario="other"))]
    refused = digest(night(8), "INCONCLUSIVE: send lag")
    history = build_history("good", [*digests, refused], [])
    assert history.runs == tuple(usable)
    assert [one.reason for one in history.left_out] == [*others, "INCONCLUSIVE: send lag"]


def test_another_run_may_decide_what_is_comparable() -> None:
    """`like` names it; a name that fits none or several is a mistake."""
    scaled, full = [night(at, scale=0.5) for at in range(3)], [night(at) for at in range(3, 5)]
    digests = [digest(one) for one in (*scaled, *full)]
    assert build_history("good", digests, [], like=scaled[0].run_id).runs == tuple(scaled)
    assert build_history("good", digests, [], like="latest").runs == tuple(full)
    for like in ("nothing", "2026", ""):
        with pytest.raises(ScenarioError, match="--like"):
            build_history("good", digests, [], like=like)


def test_baselines_are_the_memory_of_deleted_archives() -> None:
    """A baseline counts where its archive is gone, and never twice."""
    nights = [night(at) for at in range(4)]
    history = build_history("good", [digest(one) for one in nights[2:]], nights[:3])
    assert history.runs == tuple(nights)
    assert history.from_baselines == {nights[0].run_id, nights[1].run_id}


def test_a_baseline_without_its_mix_is_left_out() -> None:
    """Of schema 1 nobody knows what was sent."""
    old = night(0, mix_sha256=None, load_sha256=None, schema_version=1)
    history = build_history("good", [digest(night(1))], [old])
    assert [one.run_id for one in history.left_out] == [old.run_id]
    assert "before the mix was recorded" in history.left_out[0].reason
    assert build_history("good", [], [old]).runs == ()


def test_the_newest_runs_may_be_looked_at_alone() -> None:
    """How many older ones there are is said."""
    history = history_of([night(at) for at in range(14)]).newest(12)
    assert (len(history.runs), history.older) == (12, 2)
    assert history.runs[-1] == night(13)
    out = io.StringIO()
    Console(file=out, width=200).print(show_trend(build_trend(history, 0.05)))
    assert "12 comparable runs (2 older ones not looked at)" in out.getvalue()


def hostile_trend() -> Trend:
    """Names that would act in a terminal, in SVG or as mathematics."""
    name = f"{HOSTILE} $\\frac{{1}}{{2}}$ & <b>"
    values = [29_000.0] * 10 + [40_000.0] * 5
    nights = [night(at, row(name, p95_us=v), scenario=name) for at, v in enumerate(values)]
    history = build_history(name, [digest(one) for one in nights], [])
    return build_trend(history, 0.05)


def test_the_plot_is_the_same_every_time_and_takes_hostile_names_as_text() -> None:
    """Well-formed SVG, the same bytes; no element of a name's making, `$` as it is."""
    drawn = draw_trend(hostile_trend())
    assert drawn == draw_trend(hostile_trend())
    root = ET.fromstring(drawn)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags.isdisjoint({"script", "b", "image"})
    text = " ".join(root.itertext())
    assert "$\\frac{1}{2}$" in text
    assert "</script>" in text
    assert "\x1b" not in text
    links = [element.get("{http://www.w3.org/1999/xlink}href", "#") for element in root.iter()]
    assert all(link.startswith("#") for link in links)


def test_the_page_says_what_it_rests_on() -> None:
    """Runs, series, chance, noise and what could have been found; hostile names are inert."""
    out = io.StringIO()
    Console(file=out, width=200).print(show_trend(shifted(0.1)))
    page = out.getvalue()
    for part in ("20 comparable runs", "5 series", "worse", "strong", "found in 3 nights from"):
        assert part in page
    out = io.StringIO()
    Console(file=out, width=200).print(show_trend(hostile_trend()))
    assert "\x1b" not in out.getvalue()


def test_a_scaled_trend_says_so() -> None:
    """In its heading, its tables, its JSON and its plot."""
    nights = [night(at, scale=0.01) for at in range(12)]
    trend = build_trend(history_of(nights), 0.05)
    out = io.StringIO()
    Console(file=out, width=200).print(show_trend(trend))
    assert out.getvalue().count("SCALED x 0.01") == 2
    assert trend_to_json(trend)["is_scaled"] is True
    assert b"SCALED x 0.01" in draw_trend(trend)


def archived(results: Path, number: int, delay_ns: int = 0, **changes: object) -> Run:
    """A short run of one night, as an archive."""
    stage = Stage(name="steady", start_ns=0, end_ns=3 * S, profile=Hold(level=300.0),
                  is_judged=True)  # fmt: skip
    plan: Plan = with_objectives(good_plan(stages=(stage,)), "p95 < 200 ms")
    traces: list[Trace] = good_traces(plan, engines=1)
    for trace in traces:
        trace.delay(trace.stage == 0, delay_ns)
    figures = night(number)
    return write_run(
        results,
        plan,
        traces,
        change=lambda manifest: msgspec.structs.replace(
            manifest, run_id=figures.run_id, created_unix_ns=figures.created_unix_ns, **changes
        ),
    )


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


def test_the_command_reads_archives_and_baselines(tmp_path: Path) -> None:
    """Eleven nights, the last four slower, one of them known from its baseline alone."""
    for number in range(11):
        run = archived(tmp_path, number, delay_ns=0 if number < 7 else 5 * MS)
        if number == 0:
            promote(run, judge(run), tmp_path)
            for file in run.path.iterdir():
                file.unlink()
            run.path.rmdir()
    archived(tmp_path, 11, total_sums=None)
    plot = tmp_path / "trend.svg"
    words = ("trend", "good", "--results", str(tmp_path), "--plot", str(plot), "--json")
    code, out, _ = call(*words)
    assert code is ExitCode.PASS
    document = json.loads(out)
    assert (document["runs"], len(document["from_baselines"])) == (11, 1)
    assert [one["run_id"] for one in document["left_out"]] == [night(11).run_id]
    p50 = next(series for series in document["series"] if series["metric"] == "p50")
    assert [change["first_run"] for change in p50["changes"]] == [night(7).run_id]
    ET.fromstring(plot.read_bytes())
    assert call(*words)[1] == out
    assert len(list((tmp_path / FOLDER).glob("*.json"))) == 11
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    ((key, note),) = change_notes(list_runs(tmp_path), list_baselines(tmp_path), terminal).items()
    assert key == ("good", 1.0)
    total, _, words_of_newest = note.partition("; the newest: ")
    assert int(total) == sum(len(series["changes"]) for series in document["series"])
    assert re.fullmatch(
        r"p[0-9.]+ of steady \+\S+ % \(worse, (strong|weak)\) from 20\d\d-\d\d-\d\d on",
        words_of_newest,
    )


def test_a_damaged_baseline_keeps_nobody_from_a_report(tmp_path: Path) -> None:
    """Of a scenario with enough runs for a trend, too: the index is written, the file named."""
    for number in range(10):
        archived(tmp_path, number)
    damaged = tmp_path / "baselines" / f"{night(0).run_id}.json"
    damaged.parent.mkdir()
    damaged.write_bytes(b"{")
    code, _, said = call("report", night(9).run_id, "--results", str(tmp_path))
    assert code is ExitCode.PASS
    assert str(damaged) in said
    assert "none in 10 runs" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_damaged_baseline_is_named_and_left_out_of_a_trend(tmp_path: Path) -> None:
    """It stops nobody: said at once, and once more among what was left out."""
    for number in range(10):
        archived(tmp_path, number)
    damaged = tmp_path / "baselines" / "20260101T000000Z_good_00000000.json"
    damaged.parent.mkdir()
    damaged.write_bytes(b"{")
    code, out, said = call("trend", "good", "--results", str(tmp_path))
    assert code is ExitCode.PASS
    assert str(damaged) in said
    assert "20260101T000000Z_good_00000000: damaged baseline: " in out


def test_a_digest_holds_only_for_its_own_archive(tmp_path: Path) -> None:
    """Another run.json, another program's rules and damage make it anew."""
    run = archived(tmp_path, 0)
    assert read_digest(run.path) is None
    judge_and_store(run.path)
    made = read_digest(run.path)
    assert made is not None
    assert load_digest(run.path) == made
    path = tmp_path / FOLDER / f"{run.path.name}.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(made, manifest_sha256="other")))
    assert read_digest(run.path) is None
    earlier = msgspec.structs.replace(made, rules="other", refusal="as it was judged then")
    path.write_bytes(msgspec.json.encode(earlier))
    assert load_digest(run.path) == made
    path.write_bytes(msgspec.json.encode(earlier))
    (run.path / "plan.msgpack").rename(tmp_path / "plan")
    assert load_digest(run.path) == earlier
    (tmp_path / "plan").rename(run.path / "plan.msgpack")
    path.write_bytes(b"{")
    assert load_digest(run.path) == made
    elsewhere = tmp_path / "elsewhere" / run.path.name
    elsewhere.parent.mkdir()
    run.path.rename(elsewhere)
    assert load_digest(elsewhere) == made
    assert list(tmp_path.rglob(FOLDER)) == [tmp_path / FOLDER]


def test_digests_are_made_anew_when_judging_changes(tmp_path: Path) -> None:
    """What a digest says of the good run: where that changes, raise `digests.RULES`."""
    digest = load_digest(write_run(tmp_path).path)
    figures = msgspec.structs.replace(digest.figures, git_commit=None)
    data = msgspec.json.encode({"refusal": digest.refusal, "figures": figures}, order="sorted")
    compare_golden(GOLDEN, "digest.json", msgspec.json.format(data, indent=2).decode() + "\n")


def test_the_command_explains_its_refusals(tmp_path: Path) -> None:
    """No such scenario, a wrong option, a file that cannot be written: usage errors."""
    results = ("--results", str(tmp_path))
    code, _, said = call("trend", "nothing", *results)
    assert (code, "there is no run" in said) == (ExitCode.USAGE, True)
    assert call("trend", "x", "--significance", "1", *results)[0] is ExitCode.USAGE
    archived(tmp_path, 0)
    code, out, _ = call("trend", "good", *results)
    assert (code, "too few" in out) == (ExitCode.INCONCLUSIVE, True)
    code, _, said = call("trend", "good", "--plot", str(tmp_path / "no" / "x.svg"), *results)
    assert (code, "--plot" in said) == (ExitCode.USAGE, True)
