"""What the nodes of the good run say of themselves, scrape by scrape."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec
from synthetic_run import T0_S, S, good_plan, good_traces, write_run

from loadtests.plan.call import Endpoint
from loadtests.plan.codec import encode_plan, plan_hash
from loadtests.plan.model import Hold, Plan, Stage
from loadtests.plan.objectives import parse_alert, parse_objective
from loadtests.plan.server_metrics import (
    DEFAULT_MEASURES,
    MetricsEndpoint,
    PrometheusSource,
    Scraping,
)
from loadtests.record.archive import Run
from loadtests.record.server import (
    SCRAPE,
    SERVER_TABLE,
    ScrapeFailure,
    ServerRow,
    server_batch,
)
from loadtests.record.tables import frame_of, table_of

Values = Callable[[float, str], float | None]  # of seconds from T0 and node; None: no value


def scraping(*, every_s: float = 1.0, nodes: Collection[str] = ("n0", "n1")) -> Scraping:
    """Every node of the good plan, Micrometer's names."""
    return Scraping(
        every_ns=round(every_s * S),
        timeout_ns=S // 2,
        response_limit_bytes=1 << 20,
        headers=(),
        endpoints=tuple(
            MetricsEndpoint(
                node=name,
                at=Endpoint(scheme="http", host="127.0.0.1", port=9003),
                path="/q/metrics",
            )
            for name in nodes
        ),
        prometheus=None,
        measures=tuple(DEFAULT_MEASURES.values()),
    )


def of_prometheus(asked: Scraping) -> Scraping:
    """The same of a Prometheus server."""
    source = PrometheusSource(
        at=Endpoint(scheme="http", host="127.0.0.1", port=9090), base_path="", node_label="instance"
    )
    return dataclasses.replace(asked, endpoints=(), prometheus=source)


def plan_with(
    *objectives: str,
    alerts: Collection[str] = (),
    seconds: int = 10,
    every_s: float = 1.0,
    **changes: object,
) -> Plan:
    """2 s of warm-up, then `seconds` of 50 arrivals/s, with these limits."""
    stages = (
        Stage(name="warm-up", start_ns=0, end_ns=2 * S, profile=Hold(level=50.0), is_judged=False),
        Stage(
            name="steady",
            start_ns=2 * S,
            end_ns=(2 + seconds) * S,
            profile=Hold(level=50.0),
            is_judged=True,
        ),
    )
    plan = good_plan(
        stages=stages,
        objectives=tuple(map(parse_objective, objectives)),
        alerts=tuple(map(parse_alert, alerts)),
        scraping=scraping(every_s=every_s),
    )
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]  # fields by name


def rows_of(
    plan: Plan,
    values: Values,
    *,
    measure: str = "cpu",
    missed: Callable[[float, str], bool] = lambda _second, _node: False,
    nodes: Collection[str] = ("n0", "n1"),
) -> list[ServerRow]:
    """A scrape of each node a moment after each tick; `missed` ones are not even a row."""
    assert plan.scraping is not None
    every_s = plan.scraping.every_ns / S
    rows: list[ServerRow] = []
    for tick in range(int(plan.duration_ns / S / every_s) + 1):
        second = tick * every_s
        for node in nodes:
            if not missed(second, node):
                rows += _scrape(
                    round((T0_S + second) * S) + 3_000_000, node, measure, values(second, node)
                )
    return rows


def _scrape(at_unix_ns: int, node: str, measure: str, value: float | None) -> list[ServerRow]:
    def row(name: str, level: float | None) -> ServerRow:
        return ServerRow(
            at_unix_ns=at_unix_ns,
            node=node,
            measure=name,
            series=f"max({name})",
            value=level,
            duration_ns=4_000_000,
            failure=None if level is not None else ScrapeFailure.MISSING,
            message=None,
        )

    return [row(SCRAPE, 1.0), row(measure, value)]


@functools.cache
def _archived(seconds: int) -> Run:
    """The good requests of a stage of this length, written and read back once."""
    plan = plan_with(seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        return write_run(Path(folder), plan, good_traces(plan))


def run_with(plan: Plan, rows: Sequence[ServerRow]) -> Run:
    """The good requests beside these scrapes; how they are stored is the record room's test."""
    seconds = round((plan.stages[-1].end_ns - plan.stages[-1].start_ns) / S)
    return beside(_archived(seconds), plan, rows)


def beside(run: Run, plan: Plan, rows: Sequence[ServerRow]) -> Run:
    """A run whose plan asked for these scrapes."""
    server = frame_of(table_of(SERVER_TABLE, [server_batch(rows)]))
    data = encode_plan(plan)
    manifest = msgspec.structs.replace(run.manifest, plan_sha256=plan_hash(data))
    return dataclasses.replace(run, server=server, plan_bytes=data, manifest=manifest)


def failed_scrape(row: ServerRow) -> ServerRow:
    """A scrape that timed out."""
    return ServerRow(
        at_unix_ns=row.at_unix_ns,
        node=row.node,
        measure=SCRAPE,
        series=row.series,
        value=0.0,
        duration_ns=row.duration_ns,
        failure=ScrapeFailure.TIMEOUT,
        message="not answered in time",
    )
