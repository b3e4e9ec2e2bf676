"""What rendering each request message of a plan costs on this host, measured.

Constant messages cost nothing, fixed widths little more than their values, lengths that vary
a mask of what is used and a length for each level: the kind says why one costs more than
another. Variables, which only the engines' hosts know, are stood in for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtests.plan.call import Delimited, Part, Raw
from loadtests.plan.message import MessageKind, compile_message
from loadtests.plan.model import Plan
from loadtests.plan.template import measure_cost_ns, variables_of

_STAND_IN: Final = "1111"  # a text, a number and base64 alike
_ROUNDS: Final = 3  # the least of some: a neighbour on the core only adds


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageCost:
    """One request's message; its first rendering has `size_bytes`."""

    request: str
    kind: MessageKind
    size_bytes: int
    render_ns: float


def _sources(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, Delimited):
            yield from _sources(part.parts)
        elif not isinstance(part, Raw):
            yield part.source


def measure_messages(plan: Plan) -> tuple[MessageCost, ...]:
    """Costs of all messages of the plan's calls: a few milliseconds of CPU for each."""
    found = []
    for request in plan.requests:
        if request.call is None:
            continue
        parts = request.call.message
        names = {name for one in _sources(parts) for name in variables_of(one, plan.feeds)}
        template = compile_message(
            parts,
            run_id="",
            seed=plan.seed,
            feeds=plan.feeds,
            environment=dict.fromkeys(names, _STAND_IN),
            where=f"requests.{request.name}.message",
        )
        costs = [measure_cost_ns(template) for _ in range(1 if template.is_constant else _ROUNDS)]
        found.append(
            MessageCost(
                request=request.name,
                kind=template.kind,
                size_bytes=len(template.render_many(np.arange(1))[0]),
                render_ns=min(costs),
            )
        )
    return tuple(found)
