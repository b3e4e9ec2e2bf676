"""A decoded scenario into a plan: absolute stages and rates, mix, seed, limits.

Pure. `resolve` applies the scale, the seed and the targets of the command line; the same
code runs once at load, so a scenario that loads can only fail on those three.

What scales: every rate, every throughput limit, closed load's connections; and, because
Little's law ties them to the rate, the totals of connections, channels, in-flight and
backlog of open load (rounded up, never below 4 a node or what the author asked for).
Absolute are `target.max_rate`, which is a guard, durations and latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadtests.errors import ScenarioError
from loadtests.plan.audit import build_audit
from loadtests.plan.binning import build_binning
from loadtests.plan.call import Protocol
from loadtests.plan.calls import build_call
from loadtests.plan.capacity import build_capacity, check_load
from loadtests.plan.criteria import Criteria, build_slo, repeated
from loadtests.plan.fault_checks import Names
from loadtests.plan.faults import build_failover
from loadtests.plan.model import Plan, Request
from loadtests.plan.nodes import build_nodes, build_tls, check_target
from loadtests.plan.objectives import RateReference
from loadtests.plan.requests import build_request
from loadtests.plan.schema import Schema
from loadtests.plan.scraping import build_scraping
from loadtests.plan.spec import Attachments, CallSpec, Document, LoadSpec, ScenarioFile
from loadtests.plan.stages import Levels, build_stages
from loadtests.plan.units import parse_percent
from loadtests.plan.values import Mistakes, shown
from loadtests.record.window import MAX_SLOTS

HIGHEST_SCALE: Final = 1000.0
HIGHEST_SEED: Final = 2**63 - 1


def _build_requests(
    document: Document, attachments: Attachments, schema: Schema | None, mistakes: Mistakes
) -> tuple[Request, ...]:
    is_http2 = document.target.protocol is Protocol.HTTP2
    protocol = Protocol.HTTP2 if is_http2 else Protocol.HTTP1
    feeds, found = attachments.feeds, list[Request]()
    for index, spec in enumerate(document.requests):
        where = f"requests[{index}]"
        if isinstance(spec, CallSpec):
            text = attachments.messages.get(index)
            found.append(
                build_call(spec, text, where, schema=schema, feeds=feeds, mistakes=mistakes)
            )
        else:
            body = attachments.bodies.get(index)
            found.append(
                build_request(spec, body, where, protocol=protocol, feeds=feeds, mistakes=mistakes)
            )
    return tuple(found)


def _check_names(document: Document, mistakes: Mistakes) -> None:
    if not document.requests:
        mistakes.add("requests", "none", "at least one [[requests]]")
    if not document.stages:
        mistakes.add("stages", "none", "at least one [[stages]]")
    for section, specs in (
        ("requests", document.requests),
        ("stages", document.stages),
        ("feeds", document.feeds),
    ):
        names = [spec.name for spec in specs]
        for index in repeated(names):
            mistakes.add(f"{section}[{index}].name", shown(names[index]), "a name not used before")


def _load_percent(load: LoadSpec, mistakes: Mistakes) -> float | None:
    """The load profile's percentage, where `load.rate` is one."""
    if load.rate is None or not load.rate.strip().endswith("%"):
        return None
    rate = load.rate
    return mistakes.attempt("load.rate", rate, lambda: parse_percent(rate))


def build_plan(
    document: Document,
    attachments: Attachments,
    mistakes: Mistakes,
    *,
    text: str,
    scale: float = 1.0,
    seed: int | None = None,
    targets: Sequence[str] = (),
) -> Plan:
    """The plan; what is wrong is added to `mistakes`, and then it is none to be run."""
    load, target = document.load, document.target
    schema = None if attachments.descriptors is None else Schema(attachments.descriptors)
    requests = _build_requests(document, attachments, schema, mistakes)
    _check_names(document, mistakes)
    nodes = build_nodes(target, targets, mistakes)
    reference = RateReference(baselines=dict(document.baselines.items()), default=load.baseline)
    check_load(load, reference, mistakes)
    levels = Levels(load=load, reference=reference, scale=scale)
    stages = build_stages(document.stages, levels, document.stage_names, mistakes)
    scraping = build_scraping(document.server, nodes, mistakes)
    criteria = Criteria(
        document, stages, reference, scale=scale, scraping=scraping, mistakes=mistakes
    )
    objectives = criteria.objectives(document.criteria.objectives, "objectives")
    alerts = criteria.objectives(document.criteria.alerts, "alerts")
    aborts = criteria.aborts(document.criteria.aborts)
    slots = len(stages) * (len(requests) + 1) * len(nodes)
    if slots > MAX_SLOTS:
        mistakes.add("stages x requests x nodes", str(slots), f"at most {MAX_SLOTS}")
    check_target(target, nodes, requests, mistakes)
    capacity = build_capacity(
        levels, target, stages, nodes=len(nodes), requests=requests, mistakes=mistakes
    )
    failover = build_failover(
        document.failover,
        nodes,
        Names(requests=document.request_names, stages=document.stage_names),
        duration_ns=stages[-1].end_ns if stages else 0,
        mistakes=mistakes,
    )
    calls = [request.call.method for request in requests if request.call is not None]
    # Longer than functions are here, because a plan has as many fields as it has.
    return Plan(
        scenario_name=document.name,
        scenario_text=text,
        description=document.description,
        scale=scale,
        seed=load.seed if seed is None else seed,
        load_model=load.model,
        arrival_process=load.arrivals,
        nodes=nodes,
        tls=build_tls(target, nodes, attachments.ca_pem, mistakes),
        requests=requests,
        feeds=attachments.feeds,
        stages=stages,
        connections=capacity.connections,
        in_flight_limit=capacity.in_flight,
        backlog_limit=capacity.backlog,
        pipelining=load.pipelining,
        multiplexing=capacity.multiplexing,
        descriptors=schema.needed(calls) if schema is not None and calls else b"",
        think_time_ns=load.think_time,
        max_rate_per_s=capacity.max_rate_per_s,
        response_limit_bytes=target.response_limit,
        connect_timeout_ns=target.connect_timeout,
        connects_per_s=target.connect_rate,
        grace_ns=load.grace,
        loss_policy=load.loss_policy,
        objectives=objectives,
        alerts=alerts,
        aborts=aborts,
        version_path=target.version_path,
        baselines=tuple(sorted(document.baselines.items())),
        load_percent=_load_percent(load, mistakes),
        failover=failover,
        scraping=scraping,
        binning=build_binning(document, objectives, mistakes),
        slo=build_slo(document.criteria, objectives, mistakes),
        audit=build_audit(
            document.audit, requests, load.model, failover=failover, mistakes=mistakes
        ),
    )


def resolve(
    scenario_file: ScenarioFile,
    *,
    scale: float = 1.0,
    seed: int | None = None,
    targets: Sequence[str] = (),
) -> Plan:
    """The plan at a scale (above 0, at most 1000), with another seed or other targets.

    ScenarioError with all mistakes. `targets` replace the nodes of the file, evenly.
    """
    mistakes = Mistakes()
    if not 0 < scale <= HIGHEST_SCALE:  # false for NaN as well
        mistakes.add("--scale", f"{scale}", f"a number above 0 and at most {HIGHEST_SCALE:g}")
        scale = 1.0
    if seed is not None and not 0 <= seed <= HIGHEST_SEED:
        mistakes.add("--seed", f"{seed}", "a whole number from 0 to 2**63 - 1")
    plan = build_plan(
        scenario_file.document,
        scenario_file.attachments,
        mistakes,
        text=scenario_file.text,
        scale=scale,
        seed=seed,
        targets=targets,
    )
    if mistakes.found:
        raise ScenarioError(str(scenario_file.path), tuple(mistakes.found))
    return plan
