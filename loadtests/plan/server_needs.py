"""What objectives on the target's own metrics ask of a plan, before it runs."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.clock import NS_PER_S
from loadtests.plan.concurrency import applies
from loadtests.plan.model import MeasureKind, Plan
from loadtests.plan.needs import Finding, Severity, finding
from loadtests.plan.units import format_duration


def judge_scraping(plan: Plan) -> Iterator[Finding]:
    """Stages too short for the scrapes that an objective needs."""
    if plan.scraping is None:
        return
    for stage in plan.stages:
        seconds = (stage.end_ns - stage.start_ns) / NS_PER_S
        expected = plan.scraping.expected_scrapes(seconds)
        required = plan.scraping.required_scrapes(seconds)
        asking = [
            objective.text
            for objective in plan.objectives
            if objective.measure.kind is MeasureKind.SERVER and applies(objective, stage)
        ]
        if asking and expected < required:
            yield finding(
                Severity.WARNING,
                f"stage {stage.name}: a scrape every {format_duration(plan.scraping.every_ns)} "
                f"makes {expected} of a node, {', '.join(asking)} needs {required}: the verdict "
                "can only be INCONCLUSIVE (server.every)",
                required_scrapes=required,
                expected_scrapes=expected,
            )
