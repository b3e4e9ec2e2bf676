"""Variables that a plan's `${env:NAME}` placeholders need on the host of the engines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from loadtests.errors import Mistake
from loadtests.plan.call import Delimited, Part, Raw
from loadtests.plan.model import Plan, Request
from loadtests.plan.template import variables_of


def unfilled_variables(plan: Plan, environment: Mapping[str, str]) -> tuple[Mistake, ...]:
    """Those that this environment cannot fill: unset, empty, or with control characters."""
    mistakes: list[Mistake] = []
    for request in plan.requests:
        names = frozenset[str]().union(*(variables_of(s, plan.feeds) for s in _sources(request)))
        mistakes += _unfilled(names, environment, f"requests.{request.name}", "the engines run")
    return tuple(mistakes)


def unfilled_scrape_variables(plan: Plan, environment: Mapping[str, str]) -> tuple[Mistake, ...]:
    """Those that the headers of scrapes need on the master's host."""
    headers = () if plan.scraping is None else plan.scraping.headers
    names = frozenset[str]().union(*(variables_of(value.encode(), ()) for _, value in headers))
    return tuple(_unfilled(names, environment, "server.headers", "the master runs"))


def _unfilled(
    names: Collection[str], environment: Mapping[str, str], where: str, place: str
) -> Iterator[Mistake]:
    for name in sorted(names):
        if (seen := _wrong(environment.get(name))) is not None:
            expected = f"environment variable {name} set where {place}"
            yield Mistake(where=where, seen=f"${{env:{name}}}, {seen}", expected=expected)


def _sources(request: Request) -> tuple[bytes, ...]:
    values = (value.encode() for _, value in request.headers)
    message = _sources_of(request.call.message) if request.call is not None else ()
    return (request.path.encode(), *values, request.body or b"", *message)


def _sources_of(parts: Sequence[Part]) -> Iterator[bytes]:
    for part in parts:
        match part:
            case Raw():
                pass
            case Delimited(parts=inner):
                yield from _sources_of(inner)
            case _:
                yield part.source


def _wrong(value: str | None) -> str | None:
    if value is None:
        return "which is not set"
    if not value:
        return "which is empty"
    if not value.isprintable():
        return "whose value holds control characters"
    return None
