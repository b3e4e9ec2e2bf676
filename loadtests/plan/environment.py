"""Variables that a plan's `${env:NAME}` placeholders need on the host of the engines."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.errors import Mistake
from loadtests.plan.model import Plan, Request
from loadtests.plan.template import variables_of


def unfilled_variables(plan: Plan, environment: Mapping[str, str]) -> tuple[Mistake, ...]:
    """Those that this environment cannot fill: unset, empty, or with control characters."""
    mistakes = []
    for request in plan.requests:
        names = frozenset[str]().union(*(variables_of(s, plan.feeds) for s in _sources(request)))
        for name in sorted(names):
            if (seen := _wrong(environment.get(name))) is not None:
                where = f"requests.{request.name}"
                expected = f"environment variable {name} set where the engines run"
                mistakes.append(
                    Mistake(where=where, seen=f"${{env:{name}}}, {seen}", expected=expected)
                )
    return tuple(mistakes)


def _sources(request: Request) -> tuple[bytes, ...]:
    values = (value.encode() for _, value in request.headers)
    return (request.path.encode(), *values, request.body or b"")


def _wrong(value: str | None) -> str | None:
    if value is None:
        return "which is not set"
    if not value:
        return "which is empty"
    if not value.isprintable():
        return "whose value holds control characters"
    return None
