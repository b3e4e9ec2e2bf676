"""Criteria of a scenario: texts of the grammar, checked against its requests and stages.

Throughput limits are scaled here, once; an objective in a stage that is not judged, on a
request, in a stage or on a measure of the target that does not exist, or on a stream pool
where no request uses HTTP/2, is a mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from loadtests.plan.call import Protocol
from loadtests.plan.model import Abort, MeasureKind, Objective, Slo, Stage
from loadtests.plan.objectives import (
    RATE_KINDS,
    ROLLOUT_KINDS,
    RateReference,
    parse_abort,
    parse_alert,
    parse_objective,
)
from loadtests.plan.server_metrics import Scraping, ServerUnit
from loadtests.plan.spec import CallSpec, CriteriaSpec, Document
from loadtests.plan.values import Mistakes, can_name, shown


def repeated(names: Sequence[str]) -> list[int]:
    """Positions of names that stood before."""
    return [index for index, name in enumerate(names) if name in names[:index]]


def _scaled(objective: Objective, scale: float, server: Mapping[str, ServerUnit]) -> Objective:
    measure = objective.measure
    is_server_rate = server.get(measure.server or "") is ServerUnit.PER_SECOND
    if measure.kind not in RATE_KINDS and not is_server_rate:
        return objective
    return dataclasses.replace(objective, limit=objective.limit * scale)


def build_slo(
    criteria: CriteriaSpec, objectives: Sequence[Objective], mistakes: Mistakes
) -> Slo | None:
    """The SLO of `[criteria]`, which an objective on the error budget needs."""
    is_needed = any(one.measure.kind is MeasureKind.ERROR_BUDGET_SPENT for one in objectives)
    if criteria.slo is None:
        if is_needed:
            mistakes.add("criteria.slo", "none", 'the SLO of error_budget_spent: "99.99 %"')
        return None
    if not 0 < criteria.slo < 1:
        mistakes.add("criteria.slo", f"{criteria.slo:.4%}", "a ratio above 0 % and below 100 %")
        return None
    return Slo(ratio=criteria.slo, window_days=criteria.slo_window_days)


class Criteria:
    """Parses texts of one criteria section and checks what they refer to."""

    def __init__(
        self,
        document: Document,
        stages: Sequence[Stage],
        reference: RateReference,
        *,
        scale: float,
        scraping: Scraping | None,
        mistakes: Mistakes,
    ) -> None:
        self.document, self.stages, self.reference = document, stages, reference
        self.scale, self.mistakes = scale, mistakes
        measures = () if scraping is None else scraping.measures
        self.server = {measure.name: measure.unit for measure in measures}

    def _check_name(self, kind: str, name: str, known: Sequence[str], where: str) -> None:
        if not can_name(name, known):
            expected = "one of: " + ", ".join(sorted(set(known)))
            self.mistakes.add(where, f"{kind} {shown(name)}", expected, rests_on=(f"{kind}s",))

    def _check_pool(self, objective: Objective, where: str) -> None:
        document = self.document
        is_multiplexed = document.target.protocol is Protocol.HTTP2 or any(
            isinstance(request, CallSpec) for request in document.requests
        )
        if objective.measure.kind is MeasureKind.POOL_USE and not is_multiplexed:
            expected = "a measure of HTTP/1.1: no request uses HTTP/2, so there is no stream pool"
            self.mistakes.add(where, "pool_use", expected, rests_on=("target.protocol", "requests"))

    def _check_names(self, objective: Objective, where: str) -> None:
        self._check_pool(objective, where)
        failover = self.document.failover
        if objective.measure.kind in ROLLOUT_KINDS and (failover is None or not failover.rollout):
            expected = "[failover.rollout], which it is about"
            self.mistakes.add(where, objective.measure.kind.value, expected)
        if objective.request is not None:
            self._check_name("request", objective.request, self.document.request_names, where)
        if objective.stage is None:
            return
        self._check_name("stage", objective.stage, self.document.stage_names, where)
        if any(s.name == objective.stage and not s.is_judged for s in self.stages):
            self.mistakes.add(where, f"stage {shown(objective.stage)}", "a stage that is judged")

    def objectives(self, texts: Sequence[str], section: str) -> tuple[Objective, ...]:
        """Objectives, or alerts, with scaled throughput limits."""
        parse = parse_objective if section == "objectives" else parse_alert
        found = []
        for index, text in enumerate(texts):
            where = f"criteria.{section}[{index}]"
            parsed = partial(parse, text, self.reference, self.server)
            objective = self.mistakes.attempt(where, text, parsed)
            if objective is None:
                continue
            self._check_names(objective, where)
            found.append(_scaled(objective, self.scale, self.server))
        for index in repeated([objective.text for objective in found]):
            self.mistakes.add(f"criteria.{section}", shown(found[index].text), "each text once")
        return tuple(found)

    def aborts(self, texts: Sequence[str]) -> tuple[Abort, ...]:
        """Abort conditions with scaled throughput limits."""
        found = []
        for index, text in enumerate(texts):
            where = f"criteria.aborts[{index}]"
            parse = partial(parse_abort, text, self.reference, self.server)
            abort = self.mistakes.attempt(where, text, parse)
            if abort is None:
                continue
            self._check_names(abort.objective, where)
            objective = _scaled(abort.objective, self.scale, self.server)
            found.append(dataclasses.replace(abort, objective=objective))
        return tuple(found)
