"""A claim is met by figures alone: the limit side, the missing and the quick cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_builders import good_results, lag_sample

from benchmarks.claim import lag_claims
from benchmarks.claims import judge
from benchmarks.fan_in import CurvePair
from benchmarks.report import write_report
from benchmarks.results import Results, load_results, store_results
from benchmarks.spread import undisturbed
from loadtests.errors import HarnessError
from loadtests.plan.host_types import load_host_types

ROOT = Path(__file__).resolve().parents[2]


def _verdicts(results: Results) -> dict[str, bool | None]:
    return {claim.text: claim.is_met for claim in judge(results)}


def test_every_claim_of_good_results_is_met() -> None:
    """All figures are judged, and good ones are met."""
    verdicts = _verdicts(good_results())
    assert len(verdicts) == 33
    assert set(verdicts.values()) == {True}


def test_nothing_measured_is_never_met() -> None:
    """A claim without data is not measured: neither met nor failed."""
    assert set(_verdicts(Results()).values()) == {None}


def _failing() -> list[tuple[str, Results]]:
    good = good_results()
    assert good.cost
    assert good.lag
    assert good.memory
    assert good.leak
    assert good.fan_in
    assert good.growth
    assert good.curve
    assert good.show
    cost, lag = good.cost, good.lag

    def costlier(key: str, factor: float) -> Results:
        samples = tuple(
            replace(s, slices_us=tuple(factor * cost_us for cost_us in s.slices_us))
            if s.key == key
            else s
            for s in cost.samples
        )
        return replace(good, cost=replace(cost, samples=samples))

    def lag_of(p50_us: float, p99_us: float) -> Results:
        sample = replace(lag_sample(0.5), p50_slices_us=(p50_us,), p99_slices_us=(p99_us,))
        return replace(good, lag=replace(lag, samples=(sample,)))

    def page_of(at: int, **changes: Any) -> Results:
        assert good.page
        samples = list(good.page.samples)
        samples[at] = replace(samples[at], **changes)
        return replace(good, page=replace(good.page, samples=tuple(samples)))

    def binned(name: str) -> Results:
        assert good.bins
        figures = good.bins.rest if name == "rest" else good.bins.grpc
        samples = tuple(
            replace(s, slices_us=(10.6,)) if s.key == "bins" else s for s in figures.samples
        )
        changed = replace(figures, samples=samples)
        if name == "rest":
            return replace(good, bins=replace(good.bins, rest=changed))
        return replace(good, bins=replace(good.bins, grpc=changed))

    memory = replace(good.memory.samples[0], resident_bytes=150_000_001)
    leak = replace(good.leak.samples[1], slope_bytes_per_min=110_000.0)
    fan_in = good.fan_in.samples[0]
    dear = replace(fan_in, master_cpu_slices=(0.81, 0.81))
    show = replace(good.show.sample, show_s=(4.0, 5.0, 6.0))
    return [
        ("closed load, against wrk", costlier("closed", 1.1)),
        ("mix of 5 at 70%", costlier("open", 1.1)),
        ("mix of 5 at 90%", costlier("high", 1.2)),
        ("FastHttpUser", costlier("Fast", 0.8)),
        ("without, open load, REST", binned("rest")),
        ("without, open load, gRPC", binned("grpc")),
        ("lag p50", lag_of(101.0, 200.0)),
        ("lag p99 above", lag_of(99.0, 301.0)),
        ("Resident memory", replace(good, memory=replace(good.memory, samples=(memory,)))),
        ("No growth", replace(good, leak=replace(good.leak, samples=(leak, leak)))),
        (
            "1,000 agents: CPU",
            replace(
                good,
                fan_in=replace(
                    good.fan_in, samples=(replace(fan_in, master_cpu_slices=(0.5, 0.5)),)
                ),
            ),
        ),
        (
            "age of the latest",
            replace(good, fan_in=replace(good.fan_in, samples=(replace(fan_in, age_max_s=2.01),))),
        ),
        (
            "memory growth",
            replace(
                good,
                growth=replace(
                    good.growth,
                    sample=replace(good.growth.sample, slope_bytes_per_h=1024.0 * 1024.0),
                ),
            ),
        ),
        (
            "memory growth",  # the run went on, with an agent less for its last second
            replace(
                good,
                growth=replace(
                    good.growth,
                    sample=replace(
                        good.growth.sample, requests_sent=30_798_460, requests_archived=30_798_460
                    ),
                ),
            ),
        ),
        (
            "CURVE",
            replace(good, curve=replace(good.curve, pairs=(CurvePair(plain=fan_in, curve=dear),))),
        ),
        ("headroom show", replace(good, show=replace(good.show, sample=show))),
        ("1-hour, 10-endpoint archive", page_of(0, report_s=(9.0, 10.1, 11.0))),
        ("resident memory", page_of(0, resident_bytes=600_000_001)),
        ("headroom compare", page_of(0, compare_s=(14.0, 15.1, 16.0))),
        ("24-hour soak", page_of(1, report_s=(60.1,))),
    ]


@pytest.mark.parametrize(("name", "results"), _failing(), ids=lambda value: str(value)[:30])
def test_a_figure_beyond_its_limit_fails_its_claim_alone(name: str, results: Results) -> None:
    """One figure just beyond its limit turns exactly its own claim to not met."""
    failed = [text for text, is_met in _verdicts(results).items() if is_met is False]
    assert len(failed) == 1
    assert name in failed[0]


def test_missing_windows_fail_the_fan_in_claims() -> None:
    """A master that lost windows meets neither of its claims, however quick it was."""
    good = good_results()
    assert good.fan_in
    sample = replace(good.fan_in.samples[0], windows_missing=1)
    verdicts = _verdicts(replace(good, fan_in=replace(good.fan_in, samples=(sample,))))
    assert [text for text, is_met in verdicts.items() if is_met is False] == [
        "Master with 1,000 agents: CPU",
        "Master with 1,000 agents: age of the latest window",
    ]


def test_a_quick_or_shortened_part_measures_no_claim() -> None:
    """A smoke run never meets a claim: quick stamps and short leak checks are not measured."""
    good = good_results()
    assert good.cost
    assert good.leak
    quick = replace(good.cost, stamp=replace(good.cost.stamp, is_quick=True))
    short = replace(good.leak, samples=(replace(good.leak.samples[0], seconds=60.0),))
    verdicts = _verdicts(replace(good, cost=quick, leak=short))
    assert [text for text, is_met in verdicts.items() if is_met is None] == [
        "CPU per request, closed load, against wrk",
        "CPU per request, open load, mix of 5 at 70% of saturation, against wrk",
        "CPU per request, open load, mix of 5 at 90% of saturation, against wrk",
        "FastHttpUser's CPU per request against Headroom's, open load",
        "No growth over 10 minutes, 10,000 connections",
    ]


def test_results_survive_their_file_and_give_the_same_report(tmp_path: Path) -> None:
    """Samples read back are the samples stored, and the report is a function of them."""
    path = tmp_path / "results.json"
    store_results(path, good_results())
    assert load_results(path) == good_results()
    assert write_report(load_results(path)) == write_report(good_results())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A results file of another shape is an error with its name, never an empty result."""
    path = tmp_path / "results.json"
    path.write_text('{"cost": 3}')
    with pytest.raises(HarnessError, match=r"results\.json"):
        load_results(path)


def test_the_report_holds_claims_machine_and_every_part() -> None:
    """Each part has its heading, each claim its row, and a missing part has neither table."""
    text = write_report(good_results())
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Claims",
        "Machine and versions",
        "CPU per request",
        "Bins of 100 ms",
        "Send lag",
        "gRPC",
        "Memory",
        "Leak check",
        "Master fan-in",
        "Memory of a master",
        "CURVE on the control channel",
        "Showing an archive",
        "Reporting an archive",
    ]
    assert text.count("| met |") == 33
    assert "| closed | 1.20 | 1.20 (1.20-1.20) |" in text
    assert "## Send lag" not in write_report(replace(good_results(), lag=None))


def test_sizing_says_of_masters_what_was_measured() -> None:
    """aws-hosts.toml has the fan-in of results.json, in whole percent: both change together."""
    part = load_results(ROOT / "benchmarks" / "results.json").fan_in
    assert part is not None
    measured = [
        (
            sample.agents,
            f"{undisturbed(sample.master_cpu_slices):.0%}",
            f"{sample.master_cpu_ratio:.0%}",
        )
        for sample in part.samples
    ]
    types = load_host_types(ROOT / "scenarios" / "costs" / "aws-hosts.toml")
    stated = [
        (one.agents, one.low.replace(" ", ""), one.high.replace(" ", "")) for one in types.master
    ]
    assert stated == measured


def test_a_ticker_later_than_the_engine_is_no_answer() -> None:
    """The p50 is still judged; the difference of the p99 tells of the neighbours."""
    sample = replace(lag_sample(0.5), p50_slices_us=(90.0,), p99_slices_us=(1.0,))
    p50, above = lag_claims("lag", (sample,), "")
    assert (p50.is_met, above.is_met) == (True, None)
