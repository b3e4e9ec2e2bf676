"""The capacity model: points from archives, questions, costs, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from histories import night
from synthetic_run import S, good_plan, good_traces, with_objectives, write_run
from test_pages import HOSTILE

from analysis.capacity.model.bill import bill_of, generator_hosts
from analysis.capacity.model.costs import load_costs
from analysis.capacity.model.loads import Load, in_flight_points, loads_of, node_points
from analysis.capacity.model.questions import (
    NodesNeeded,
    Spare,
    first_break,
    nodes_with_spare,
)
from analysis.capacity.model.usl import Usl
from analysis.verdict import judge
from loadtests.cli import main
from loadtests.commands.calibration import Calibration, ProtocolCost, store_calibration
from loadtests.commands.capacity_model import COSTS
from loadtests.errors import ExitCode, ScenarioError
from loadtests.plan.model import Hold, Node, Plan, Stage
from loadtests.record.archive import Run

LAW = Usl(gamma=50.0, sigma=0.02, kappa=0.0005)  # over requests in flight: 20 ms at one
RATES = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0)


def load(rate: float = 100.0, **changes: object) -> Load:
    """A stage that held everything."""
    good = Load(run_id="r1", stage=f"{rate:g}", nodes=4, is_closed=False, in_flight=5.0,
                planned_per_s=rate, goodput_per_s=rate, holds=True, broken=(),
                generator_cpu_s=20e-6)  # fmt: skip
    return dataclasses.replace(good, **changes)  # type: ignore[arg-type]  # fields by name


def stages_of(rates: Sequence[float]) -> tuple[Stage, ...]:
    """Two seconds at each rate."""
    return tuple(
        Stage(name=f"at-{rate:g}", start_ns=2 * at * S, end_ns=2 * (at + 1) * S,
              profile=Hold(level=rate), is_judged=True)
        for at, rate in enumerate(rates)
    )  # fmt: skip


def nodes_of(count: int) -> tuple[Node, ...]:
    """A target of so many nodes."""
    return tuple(
        Node(name=f"n{i}", scheme="http", host="127.0.0.1", port=9003 + i, base_path="",
             weight=1.0, grpc=None)
        for i in range(count)
    )  # fmt: skip


def archived(results: Path, number: int, plan: Plan, service_s: Sequence[float]) -> Run:
    """A run whose stages answer in exactly these times."""
    traces = good_traces(plan, engines=1)
    for trace in traces:
        trace.done_ns = trace.sent_ns + (np.array(service_s)[trace.stage] * 1e9).astype(np.int64)
    run_id = night(number).run_id
    return write_run(
        results,
        plan,
        traces,
        change=lambda manifest: msgspec.structs.replace(manifest, run_id=run_id),
    )


def plan_at(rates: Sequence[float], **changes: object) -> Plan:
    """Judged for p95 alone; a rate is never a reason to break."""
    plan = good_plan(stages=stages_of(rates), in_flight_limit=4000, connections=4000,
                     max_rate_per_s=1e5, **changes)  # fmt: skip
    return with_objectives(plan, "p95 < 200 ms", "throughput >= 100000 rps")


def stair(results: Path, **changes: object) -> Run:
    """One run up the stairs of a target that follows `LAW`."""
    service_s = [LAW.n_for(rate) / rate for rate in RATES]
    return archived(results, 0, plan_at(RATES, **changes), service_s)


@pytest.fixture(scope="module")
def stairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with one run up the stairs."""
    results = tmp_path_factory.mktemp("stairs")
    stair(results)
    return results


@pytest.fixture(scope="module")
def scaled_stairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scaled, of a scenario with a hostile name."""
    results = tmp_path_factory.mktemp("scaled")
    stair(results, scale=0.01, scenario_name=HOSTILE)
    return results


def call(*arguments: str) -> tuple[ExitCode, str, str]:
    """Exit code, standard output, standard error."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(arguments, stdout, stderr)
    return code, stdout.getvalue(), stderr.getvalue()


def test_stages_of_one_run_find_the_law_of_their_target(stairs: Path) -> None:
    """N is the mean in flight: the engines counted it; nothing was told about the law."""
    words = ("capacity", "model", "latest", "--results", str(stairs))
    code, out, _ = call(*words, "--json")
    assert code is ExitCode.PASS
    document = json.loads(out)
    assert document["over"] == "in flight"
    law = {name: figure["value"] for name, figure in document["law"].items()}
    assert law["gamma"] == pytest.approx(LAW.gamma, rel=0.01)
    assert law["sigma"] == pytest.approx(LAW.sigma, rel=0.05)
    assert law["peak_n"] == pytest.approx(LAW.peak_n, rel=0.05)
    assert document["law"]["peak_per_s"]["low"] < LAW.peak_per_s * 1.01
    assert all(abs(point["residual"]) < 0.02 for point in document["points"])
    # How many nodes more is not known from one node count, only that it is not fewer.
    bare = document["demand"][0]
    least = math.ceil(776_000 * 2 / document["law"]["peak_per_s"]["high"] - 1e-9)
    assert bare["nodes"] == {"low": least, "high": None, "is_high_known": False}
    assert bare["is_extrapolated"]


def test_every_model_names_hosts_or_says_why_not(
    stairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that make the highest rate asked for, where this machine was calibrated."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    words = ("capacity", "model", "latest", "--results", str(stairs))
    _, out, _ = call(*words)
    assert "this machine has no calibration; `headroom calibrate` measures one" in out
    document = json.loads(call(*words, "--json")[1])
    assert document["hosts"] is None
    assert "`headroom calibrate`" in document["hosts_note"]
    cost = ProtocolCost(
        request_ns=11_000.0, request_ns_low=11_000.0, request_ns_high=12_500.0,
        saturation_per_s=20_000.0, sent_bytes=180.0, received_bytes=620.0,
    )  # fmt: skip
    store_calibration(Calibration(measured_unix_ns=S, cores=2, http1=cost, grpc=cost))
    _, out, _ = call(*words)
    assert "Hosts for 1,552,000 requests/s (calibrated on 1970-01-01)" in out
    document = json.loads(call(*words, "--json")[1])
    assert document["hosts_note"] is None
    assert document["hosts"][0]["type"] == "c6i.4xlarge"
    # 1,552,000/s over 700/s of the run, whose 4,000 connections grow by as much.
    assert document["hosts"][0]["engines"] == "19 to 22"


def test_runs_at_several_node_counts_answer_with_nodes(tmp_path: Path) -> None:
    """A point a run, at the largest goodput that holds; more than it broke p95."""
    law = Usl(gamma=200.0, sigma=0.05, kappa=0.002)
    names = []
    for count in range(1, 7):
        holds = round(law.at(count))
        plan = plan_at((holds, holds + 100.0), nodes=nodes_of(count), baselines=(("rest", 1.0),))
        run = archived(tmp_path, count, plan, [0.02, 0.3])
        names.append(run.manifest.run_id)
    costs = str(costs_file(tmp_path, '["900 rps", "5000 rps"]'))
    results = ("--results", str(tmp_path), "--costs", costs, "--json")
    code, out, said = call("capacity", "model", *names, *results)
    assert code is ExitCode.PASS, said
    document = json.loads(out)
    assert (document["over"], len(document["points"])) == ("nodes", 6)
    few, many = document["demand"][0], document["demand"][3]
    assert few["nodes"]["low"] <= math.ceil(law.n_for(900)) <= few["nodes"]["high"]
    assert few["cost_per_month"]["low"] <= few["cost_per_month"]["high"]
    assert many["nodes"]["high"] is None
    assert many["nodes"]["is_high_known"]
    assert many["is_extrapolated"]
    assert document["breaks"][0]["broken"] == ["p95 < 200 ms: 300 ms, limit 200 ms"]


def test_a_scaled_model_never_claims_the_full_rate(scaled_stairs: Path) -> None:
    """Every heading says so, the rates asked for are scaled; a hostile name is inert."""
    words = ("capacity", "model", "latest", "--results", str(scaled_stairs))
    document = json.loads(call(*words, "--json")[1])
    assert document["is_scaled"]
    rates = {row["rate_per_s"] for row in document["demand"]}
    assert rates == {7_760.0, 10_000.0, 11_640.0, 15_520.0}
    page = call(*words)[1]
    assert page.count("SCALED x 0.01") == 5
    assert "776,000" not in page
    for part in ("Universal Scalability Law", "none broke", "extrapolated", "runs at several"):
        assert part in page
    assert "\x1b[2J" not in page


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    """Two scales, two mixes, the same run twice, too few points: each is named."""
    first = archived(tmp_path, 0, plan_at((100.0,)), [0.02]).manifest.run_id
    plan = plan_at((100.0,), scale=0.5)
    scaled = archived(tmp_path, 1, plan, [0.02]).manifest.run_id
    mixed = plan_at((100.0,))
    requests = (dataclasses.replace(mixed.requests[0], weight=1.0), mixed.requests[1])
    other = archived(tmp_path, 2, dataclasses.replace(mixed, requests=requests), [0.02])
    cases = {
        "one scale": (first, scaled),
        "the same requests": (first, other.manifest.run_id),
        "each run once": (first, first),
        "at least 6 points": (first,),
    }
    for expected, names in cases.items():
        code, _, said = call("capacity", "model", *names, "--results", str(tmp_path))
        assert (code, expected in said) == (ExitCode.USAGE, True), said


def test_a_stage_that_the_generator_limited_is_void(tmp_path: Path) -> None:
    """It is named with its law and is never a point."""
    plan = plan_at((100.0, 200.0))
    traces = good_traces(plan, engines=1)
    for trace in traces:
        trace.sent_ns[trace.stage == 1] += 30_000_000
        trace.done_ns[trace.stage == 1] += 30_000_000
    run = write_run(tmp_path, plan, traces)
    loads, voids = loads_of(run, judge(run))
    assert [one.stage for one in loads] == ["at-100"]
    assert [one.stage for one in voids] == ["at-200"]
    assert voids[0].reason.startswith("generator-limited: ")


def test_below_one_in_flight_the_law_does_not_begin() -> None:
    """Neither does it without good answers."""
    loads = [load(in_flight=0.4), load(goodput_per_s=0.0), load()]
    points, voids = in_flight_points(loads)
    assert (len(points), len(voids)) == (1, 2)


def test_a_stage_without_a_limit_holds_nothing(tmp_path: Path) -> None:
    """With objectives on rates alone it is a point in flight, and none of nodes."""
    plan = with_objectives(plan_at((200.0,)), "throughput >= 150 rps")
    run = archived(tmp_path, 0, plan, [0.02])
    (one,), _ = loads_of(run, judge(run))
    assert one.holds is None
    assert len(in_flight_points([one])[0]) == 1
    assert node_points([dataclasses.replace(one, is_closed=True)])[0] == []


NODE_CASES: dict[str, tuple[list[Load], list[float]]] = {
    "a higher stage broke": ([load(100), load(200, holds=False)], [100.0]),
    "nothing broke: the limit was not met": ([load(100), load(200)], []),
    "nothing held": ([load(100, holds=False)], []),
    "broke below what held: noise, no limit": ([load(100, holds=False), load(200)], []),
    "inconclusive is no limit": ([load(100), load(200, holds=None)], []),
    "closed load finds its own limit": ([load(100, is_closed=True)], [100.0]),
    "two runs show it together": ([load(100), load(200, holds=False, run_id="r2")], [100.0]),
    "but not at different node counts": (
        [load(100), load(200, holds=False, run_id="r2", nodes=5)],
        [],
    ),
}


@pytest.mark.parametrize(("loads", "expected"), NODE_CASES.values(), ids=NODE_CASES.keys())
def test_a_point_of_nodes_is_a_limit_that_was_met(loads: list[Load], expected: list[float]) -> None:
    """A load that merely holds says nothing of what a node can carry."""
    points, voids = node_points(loads)
    assert [point.per_s for point in points] == expected
    assert bool(voids) is not bool(expected)


def test_it_breaks_first_between_two_loads() -> None:
    """The smallest that broke, and the largest below it that held."""
    loads = [load(100), load(300, holds=False), load(200), load(250, holds=False), load(400)]
    first = first_break(loads, lambda broken: (f"p95 at {broken.planned_per_s:g}",))
    assert (first.holds_per_s, first.breaks_per_s, first.broken) == (200, 250, ("p95 at 250",))
    whole = first_break(loads[:1], lambda _: ())
    assert (whole.holds_per_s, whole.breaks_per_s) == (100, None)


@pytest.mark.parametrize(
    ("needed", "spare", "expected"),
    [
        (3, Spare.NOTHING, 3),
        (2.2, Spare.NOTHING, 3),
        (3.0000000001, Spare.NOTHING, 3),
        (3, Spare.ONE_NODE, 4),
        (4, Spare.ONE_ZONE, 6),  # 2 of 6 in each of three zones
        (5, Spare.ONE_ZONE, 8),  # 3, 3 and 2: the fullest has 3
        (1, Spare.ONE_ZONE, 2),
        (math.inf, Spare.ONE_NODE, math.inf),
    ],
)
def test_nodes_to_spare(needed: float, spare: Spare, expected: float) -> None:
    """So many that the needed ones are left when the worst is gone."""
    assert nodes_with_spare(needed, spare, zones=3) == expected


def needed(low: float, high: float | None, per_s: float = 776_000.0) -> NodesNeeded:
    """A rate that takes so many nodes."""
    return NodesNeeded(per_s=per_s, spare=Spare.NOTHING, low=low, high=high, is_extrapolated=False)


def test_the_shipped_costs_are_the_requirements() -> None:
    """4 nodes: 6,200 a month without generators, whatever grows and however."""
    costs = load_costs(COSTS)
    free = msgspec.structs.replace(costs.generators, per_hour=0.0)
    costs = msgspec.structs.replace(costs, generators=free)
    bill = bill_of(costs, needed(4, 4), [load()])
    assert (bill.month.low, bill.month.high) == (6200, 6200)
    # 776,000/s for 730 h are 2,039,328 million requests.
    assert bill.per_million.low == pytest.approx(6200 / 2_039_328)
    assert costs.demand.rates_per_s == (776_000, 1_000_000, 1_164_000, 1_552_000)


def test_what_grows_by_an_unknown_law_makes_the_range() -> None:
    """8 nodes: compute doubles; the shared services between once and twice; never less for 2."""
    costs = load_costs(COSTS)
    free = msgspec.structs.replace(costs.generators, per_hour=0.0)
    costs = msgspec.structs.replace(costs, generators=free)
    bill = bill_of(costs, needed(8, 8), [load()])
    assert (bill.month.low, bill.month.high) == (4800 + 3800, 4800 + 7600)
    bill = bill_of(costs, needed(2, 2), [load()])
    assert (bill.month.low, bill.month.high) == (1200 + 3800, 1200 + 3800)
    assert bill_of(costs, needed(2, None), [load()]).month.high is None
    assert bill_of(costs, needed(2, math.inf), [load()]).month.high == math.inf


def test_generators_are_counted_by_the_cpu_that_runs_took() -> None:
    """776,000/s at 20 to 40 us are 15.5 to 31 cores; of 16 cores 14.4 may be used."""
    costs = load_costs(COSTS)
    hosts = generator_hosts(costs, [load(), load(generator_cpu_s=40e-6)], 776_000)
    assert (hosts.low, hosts.high) == (2, 3)
    bill = bill_of(costs, needed(4, 4), [load()])
    assert bill.month.low == pytest.approx(6200 + 2 * 0.68 * 76)


def costs_file(folder: Path, rates: str = '["776000 rps"]', extra: str = "") -> Path:
    """A small cost file."""
    path = folder / "costs.toml"
    path.write_text(f"""
version = 1
currency = "EUR"
[demand]
rates = {rates}
zones = 3
[[items]]
name = "nodes"
per_month = 100
nodes = 1
grows = "with nodes"
{extra}
[generators]
name = "g"
per_hour = 1.0
cores = 8
hours_per_month = 10
""")
    return path


BAD_COSTS = {
    "a typo": ('["1 rps"]', "per_mont = 3", "per_mont"),
    "no unit": ('["776000"]', "", "demand.rates"),
    "a rate of nothing": ('["0 rps"]', "", "rate of 0"),
    "no rate": ("[]", "", "rates"),
    "no such growth": ('["1 rps"]', '[[items]]\nname="x"\nper_month=1\nnodes=1\ngrows="up"', "up"),
    "no TOML": ("[", "", "costs.toml"),
}


@pytest.mark.parametrize(("rates", "extra", "seen"), BAD_COSTS.values(), ids=BAD_COSTS.keys())
def test_a_mistake_in_the_cost_file_is_named(
    tmp_path: Path, rates: str, extra: str, seen: str
) -> None:
    """With the file and where in it; nothing becomes a default."""
    with pytest.raises(ScenarioError, match=r"costs\.toml") as caught:
        load_costs(costs_file(tmp_path, rates, extra))
    assert seen in str(caught.value)
    with pytest.raises(ScenarioError, match="nowhere"):
        load_costs(tmp_path / "nowhere.toml")
