"""`[server]` of a scenario, the grammar of series, and objectives on them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from plan_builders import good_plan, node

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.errors import ScenarioError, TargetError
from loadtests.plan.authorisation import Configuration, refuse_unauthorised
from loadtests.plan.codec import decode_plan, encode_plan
from loadtests.plan.environment import unfilled_scrape_variables
from loadtests.plan.model import Measure, MeasureKind, Plan
from loadtests.plan.objectives import parse_abort, parse_alert, parse_measure, parse_objective
from loadtests.plan.rehearsal import rehearse
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.scraping import describe_scraping
from loadtests.plan.server_metrics import (
    DEFAULT_MEASURES,
    Aggregate,
    Scraping,
    Selector,
    ServerUnit,
    parse_series,
)
from loadtests.plan.server_needs import judge_scraping
from loadtests.plan.trial import trial_plan
from loadtests.plan.units import UnitError

BASE = """
version = 1
[target]
nodes = ["http://127.0.0.1:9003", {{ url = "http://127.0.0.1:9004/prefix", name = "second" }}]
[load]
connections = 8
{server}
[[requests]]
name = "a"
path = "/"
[[stages]]
name = "steady"
duration = "60 s"
rate = "10 rps"
[criteria]
objectives = ["error_ratio < 50 %"{objectives}]
"""


def written(folder: Path, server: str, objectives: str = "") -> Path:
    """A scenario with this `[server]`."""
    path = folder / "server.toml"
    path.write_text(BASE.format(server=server, objectives=objectives), encoding="utf-8")
    return path


def plan_of(folder: Path, server: str, objectives: str = "", *, scale: float = 1.0) -> Plan:
    """Its plan."""
    return resolve(load_scenario(written(folder, server, objectives)), scale=scale)


def scraping_of(folder: Path, server: str) -> Scraping:
    """Its scraping."""
    found = plan_of(folder, server).scraping
    assert found is not None
    return found


def mistakes_of(folder: Path, server: str, objectives: str = "") -> dict[str, str]:
    """What is expected, by the path of each mistake."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(written(folder, server, objectives))
    return {mistake.where: mistake.expected for mistake in caught.value.mistakes}


@pytest.mark.parametrize(
    ("text", "promql"),
    [
        ("max(process_cpu_usage)", "max by (instance) (process_cpu_usage)"),
        (' sum( a:b{x="1", y=""} ) ', 'sum by (instance) (a:b{x="1",y=""})'),
        ("max(1 - free / total)", "max by (instance) (1 - free / total)"),
        ("avg(a{} / b)", "avg by (instance) (a / b)"),
        ("min(1-a)", "min by (instance) (1 - a)"),
    ],
)  # fmt: skip
def test_a_series_is_its_own_promql(text: str, promql: str) -> None:
    """The text, parsed and written again, is a query grouped by node."""
    series = parse_series(text)
    assert series.by("instance") == promql
    assert parse_series(str(series)) == series


def test_a_series_is_read_as_its_parts() -> None:
    """Aggregate, complement, numerator with labels, denominator."""
    series = parse_series('max(1 - free{path="/"} / total)')
    assert (series.aggregate, series.is_complement) == (Aggregate.MAX, True)
    assert series.numerator == Selector(name="free", labels=(("path", "/"),))
    assert series.denominator == Selector(name="total", labels=())


@pytest.mark.parametrize(
    "text",
    ["", "cpu", "max()", "max(a", "rate(a[5m])", "max(a) + 1", "max(2 - a)", "max(a b)",
     "max(a{x=1})", 'max(a{x="1)', 'max(a{x="a,b"})', 'max(a{="1"})', "max(1a)", "max(a/b/c)",
     "MAX(a)", 'max(a{x=~"1"})'],
)  # fmt: skip
def test_anything_else_is_no_series(text: str) -> None:
    """What cannot be computed from one page is refused, not guessed."""
    with pytest.raises(UnitError, match="a series such as"):
        parse_series(text)


def test_the_default_is_every_nodes_own_page(tmp_path: Path) -> None:
    """An empty section: Quarkus' path at each node, every 5 s, Micrometer's names."""
    scraping = scraping_of(tmp_path, "[server]")
    first, second = scraping.endpoints
    assert (first.node, first.at.port, first.path) == ("127.0.0.1:9003", 9003, "/q/metrics")
    assert (second.node, second.at.port, second.path) == ("second", 9004, "/prefix/q/metrics")
    assert (scraping.every_ns, scraping.timeout_ns) == (5 * NS_PER_S, 4 * NS_PER_S)
    assert scraping.measures == tuple(DEFAULT_MEASURES.values())
    assert scraping.prometheus is None


def test_without_the_section_nothing_is_asked(tmp_path: Path) -> None:
    """A scenario that says nothing of it has no scraping, and no measure of the target."""
    assert plan_of(tmp_path, "").scraping is None
    wrong = mistakes_of(tmp_path, "", ', "server.cpu < 80 %"')
    assert "no [server]" in wrong["criteria.objectives[1]"]


def test_measures_are_replaced_and_added(tmp_path: Path) -> None:
    """A name of the defaults is the scenario's own, another one stands beside them."""
    scraping = scraping_of(
        tmp_path,
        '[server]\n[server.measures.cpu]\nunit = "ratio"\nseries = ["max(a)", "max(b)"]\n'
        '[server.measures.heap]\nunit = "bytes"\nseries = ["sum(jvm_memory_used_bytes)"]\n',
    )
    assert [str(one) for one in scraping.measure("cpu").series] == ["max(a)", "max(b)"]
    assert scraping.measure("heap").unit is ServerUnit.BYTES
    assert len(scraping.measures) == len(DEFAULT_MEASURES) + 1


def test_a_prometheus_server_is_asked_instead_of_the_nodes(tmp_path: Path) -> None:
    """Its URL, its label of nodes, PromQL of one's own, and a calmer pace."""
    scraping = scraping_of(
        tmp_path,
        '[server]\nprometheus = "http://127.0.0.1:9090/prom/"\nnode_label = "pod"\n'
        '[server.measures.cpu]\nunit = "ratio"\nquery = "avg by (pod) (rate(x[1m]))"\n',
    )
    assert scraping.prometheus is not None
    assert (scraping.prometheus.at.port, scraping.prometheus.base_path) == (9090, "/prom")
    assert scraping.endpoints == ()
    assert scraping.every_ns == 15 * NS_PER_S
    lines = describe_scraping(scraping)
    assert lines[0] == "http://127.0.0.1:9090/prom/api/v1/query, every 15 s, by pod"
    assert "server.cpu: avg by (pod) (rate(x[1m]))" in lines


def test_every_mistake_of_the_section_is_named_at_once(tmp_path: Path) -> None:
    """Each key with its path and what was expected."""
    wrong = mistakes_of(
        tmp_path,
        '[server]\npath = "q"\nport = 70000\nevery = "500 ms"\ntimeout = "2 s"\n'
        'node_label = "x"\nheaders = { Host = "h", "a b" = "c", X = "${uid}", Y = "\\u00e4" }\n'
        '[server.measures.a]\nunit = "percent"\nseries = ["cpu"]\n'
        '[server.measures.b]\nunit = "ratio"\n'
        '[server.measures.c]\nunit = "ratio"\nquery = "x"\n'
        '[server.measures.scrape]\nunit = "count"\nseries = ["max(x)"]\n',
    )
    assert set(wrong) == {
        "server.path",
        "server.port",
        "server.every",
        "server.timeout",
        "server.node_label",
        "server.headers.Host",
        "server.headers.a b",
        "server.headers.X",
        "server.headers.Y",
        "server.measures.a.unit",
        "server.measures.a.series[0]",
        "server.measures.b",
        "server.measures.c.query",
        "server.measures.scrape",
    }
    beside = mistakes_of(tmp_path, '[server]\nprometheus = "http://127.0.0.1:1"\npath = "/x"')
    assert "beside prometheus" in beside["server.path"]


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("server.cpu < 80 %", "cpu", 0.8),
        ("server.memory < 512 MB", "memory", 512e6),
        ("server.disk<=70 %", "disk", 0.7),
        ("server.pool_in_use <= 80", "pool_in_use", 80.0),
        ("server.requests < 100 /s", "requests", 100.0),
    ],
)
def test_a_limit_has_the_words_of_its_measure(text: str, name: str, limit: float) -> None:
    """The unit of the measure says what a limit may be."""
    objective = parse_objective(text)
    assert objective.measure == Measure(kind=MeasureKind.SERVER, quantile=None, server=name)
    assert objective.limit == pytest.approx(limit, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    ["server.cpu < 512 MB", "server.memory < 80 %", "server.pool_in_use <= 80 %",
     "server.cpu < 80", "server.cpu > 80 %", "server.cpu < 80 % on a", "server.nothing < 1",
     "server. < 1", "server < 1", "server.cpu < 80 % for 5 min"],
)  # fmt: skip
def test_no_other_limit_is_taken(text: str) -> None:
    """Wrong units, unknown measures, requests and the wrong direction are refused."""
    with pytest.raises(UnitError, match="expected"):
        parse_objective(text)


def test_alerts_may_last_and_aborts_may_not_name_them() -> None:
    """An alert says for how long; a run is not aborted on what is seen every few seconds."""
    alert = parse_alert("server.pool_in_use > 90 for 5 min")
    assert (alert.limit, alert.sustain_ns) == (90.0, 300 * NS_PER_S)
    with pytest.raises(UnitError, match="too seldom"):
        parse_abort("server.cpu > 90 % for 30 s")


def test_the_known_measures_are_listed() -> None:
    """A wrong name tells the right ones."""
    with pytest.raises(UnitError, match="cpu, host_cpu, memory, disk, pool_in_use"):
        parse_measure("server.cpus")


def test_only_rates_of_the_target_scale(tmp_path: Path) -> None:
    """A rate is per second of a scaled load; CPU, memory and connections are not."""
    plan = plan_of(
        tmp_path, "[server]", ', "server.requests < 100 /s", "server.cpu < 80 %"', scale=0.1
    )
    assert [objective.limit for objective in plan.objectives[1:]] == [pytest.approx(10.0), 0.8]


def test_hosts_that_are_asked_must_be_authorised(tmp_path: Path) -> None:
    """A Prometheus server elsewhere is refused like a target elsewhere; loopback is not."""
    nobody = Configuration(path=None, targets=())
    now = datetime.now(tz=UTC)
    refuse_unauthorised(plan_of(tmp_path, "[server]"), nobody, now)
    foreign = plan_of(tmp_path, '[server]\nprometheus = "http://192.0.2.7:9090"')
    with pytest.raises(TargetError, match=r"192\.0\.2\.7, which is not an authorised target"):
        refuse_unauthorised(foreign, nobody, now)


def test_secrets_of_headers_are_needed_where_the_master_runs(tmp_path: Path) -> None:
    """A variable that is not set is named before the run; the plan holds its name alone."""
    plan = plan_of(
        tmp_path, '[server]\nheaders = { Authorization = "Bearer ${env:METRICS_TOKEN}" }'
    )
    (mistake,) = unfilled_scrape_variables(plan, {})
    assert mistake.where == "server.headers"
    assert "METRICS_TOKEN set where the master runs" in mistake.expected
    assert unfilled_scrape_variables(plan, {"METRICS_TOKEN": "s3cr3t-token"}) == ()


def test_a_stage_too_short_for_its_scrapes_is_said_before_the_run(tmp_path: Path) -> None:
    """20 s at one scrape every 5 s are 4, and 5 are needed."""
    plan = plan_of(tmp_path, "[server]", ', "server.cpu < 80 %"')
    assert list(judge_scraping(plan)) == []
    stage = dataclasses.replace(plan.stages[0], end_ns=20 * NS_PER_S)
    (found,) = judge_scraping(dataclasses.replace(plan, stages=(stage,)))
    assert "makes 4 of a node" in found.text
    assert "needs 5" in found.text


def test_a_rehearsal_asks_more_often(tmp_path: Path) -> None:
    """A stage of 10 s has ten scrapes, a second apart, none longer than that."""
    plan = plan_of(tmp_path, '[server]\ntimeout = "3 s"')
    short = rehearse(plan, warm_up_ns=3 * NS_PER_S, stage_ns=10 * NS_PER_S).scraping
    assert short is not None
    assert (short.every_ns, short.timeout_ns) == (NS_PER_S, 800 * NS_PER_MS)
    assert rehearse(good_plan(), warm_up_ns=1, stage_ns=NS_PER_MS).scraping is None


def test_a_trial_of_a_search_asks_more_often_too(tmp_path: Path) -> None:
    """Else no trial could be judged; a Prometheus server is asked at its own pace."""
    plan = plan_of(tmp_path, "[server]")

    def trial(plan: Plan) -> Scraping:
        stage = plan.stages[0]
        found = trial_plan(
            plan, stage, 10.0, warm_up_ns=NS_PER_S, trial_ns=20 * NS_PER_S, ceiling=100.0
        ).scraping
        assert found is not None
        return found

    short = trial(plan)
    assert short.every_ns == 2 * NS_PER_S
    assert short.expected_scrapes(20) >= short.required_scrapes(20)
    prometheus = plan_of(tmp_path, '[server]\nprometheus = "http://127.0.0.1:9090"')
    assert trial(prometheus).every_ns == 15 * NS_PER_S


def test_a_plan_with_scraping_survives_its_bytes(tmp_path: Path) -> None:
    """What travels is what was planned, and a plan of before it could be is still read."""
    plan = plan_of(tmp_path, "[server]", ', "server.cpu < 80 %"')
    assert decode_plan(encode_plan(plan)) == plan
    old = msgspec.msgpack.decode(encode_plan(good_plan(nodes=(node(),))))
    del old["scraping"]
    for objective in old["objectives"]:
        del objective["measure"]["server"]
    assert decode_plan(msgspec.msgpack.encode(old)).scraping is None
