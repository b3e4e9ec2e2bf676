"""Criteria of a scenario: texts of the grammar, checked against its requests and stages.

Throughput limits are scaled here, once; an objective in a stage that is not judged, on a
request or in a stage that does not exist, is a mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loadtests.plan.model import Abort, Objective, Stage
from loadtests.plan.objectives import (
    RATE_KINDS,
    RateReference,
    parse_abort,
    parse_alert,
    parse_objective,
)
from loadtests.plan.spec import Document
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes, shown


def repeated(names: Sequence[str]) -> list[int]:
    """Positions of names that stood before."""
    return [index for index, name in enumerate(names) if name in names[:index]]


def _scaled(objective: Objective, scale: float) -> Objective:
    if objective.measure.kind not in RATE_KINDS:
        return objective
    return dataclasses.replace(objective, limit=objective.limit * scale)


class Criteria:
    """Parses texts of one criteria section and checks what they refer to."""

    def __init__(
        self,
        document: Document,
        stages: Sequence[Stage],
        reference: RateReference,
        scale: float,
        mistakes: Mistakes,
    ) -> None:
        self.document, self.stages, self.reference = document, stages, reference
        self.scale, self.mistakes = scale, mistakes

    def _check_names(self, objective: Objective, where: str) -> None:
        if objective.request is not None and objective.request not in self.document.request_names:
            known = ", ".join(sorted(self.document.request_names))
            self.mistakes.add(where, f"request {shown(objective.request)}", f"one of: {known}")
        if objective.stage is None:
            return
        if objective.stage not in self.document.stage_names:
            known = ", ".join(sorted(self.document.stage_names))
            self.mistakes.add(where, f"stage {shown(objective.stage)}", f"one of: {known}")
        elif any(s.name == objective.stage and not s.is_judged for s in self.stages):
            self.mistakes.add(where, f"stage {shown(objective.stage)}", "a stage that is judged")

    def objectives(self, texts: Sequence[str], section: str) -> tuple[Objective, ...]:
        """Objectives, or alerts, with scaled throughput limits."""
        parse = parse_objective if section == "objectives" else parse_alert
        found = []
        for index, text in enumerate(texts):
            where = f"criteria.{section}[{index}]"
            try:
                objective = parse(text, self.reference)
            except UnitError as error:
                self.mistakes.add(where, shown(text), error.expected)
                continue
            self._check_names(objective, where)
            found.append(_scaled(objective, self.scale))
        for index in repeated([objective.text for objective in found]):
            self.mistakes.add(f"criteria.{section}", shown(found[index].text), "each text once")
        return tuple(found)

    def aborts(self, texts: Sequence[str]) -> tuple[Abort, ...]:
        """Abort conditions with scaled throughput limits."""
        found = []
        for index, text in enumerate(texts):
            where = f"criteria.aborts[{index}]"
            try:
                abort = parse_abort(text, self.reference)
            except UnitError as error:
                self.mistakes.add(where, shown(text), error.expected)
                continue
            self._check_names(abort.objective, where)
            objective = _scaled(abort.objective, self.scale)
            found.append(dataclasses.replace(abort, objective=objective))
        return tuple(found)
