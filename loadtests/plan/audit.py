"""`[audit]`: which request is a write, what its id is, and how it is read back.

[audit]
request = "submit"                 # of [[requests]], whose path, body or message has the id
id = "w-${run}-${seq}"             # of ${run} and ${seq} alone: the same wherever it stands
                                   # (${seq:12} where ids must be of one length, as in base64)

[audit.read]                       # over HTTP/1.1, from a node that did not take the write
path = "/transactions/${id}"       # ${id}, or ${id_base64} in a body
copies = "/count"                  # JSON pointer to a list or a number; else 1 where present
present = [200]
absent = [404]
over = "nodes"                     # of [failover], two of them: where one load balancer is the
                                   # target, and nobody knows which node took a write
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from loadtests.plan.call import Delimited, Part, Text
from loadtests.plan.failover import Failover, System
from loadtests.plan.model import Audit, AuditRead, LoadModel, Plan, ReadOver, Request
from loadtests.plan.spec import AuditSpec
from loadtests.plan.template import Template, compile_template
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes, shown

READS_OVER_NODES: Final = 2
ID: Final = "${id}"
ID_BASE64: Final = "${id_base64}"
_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")
_IN_READ: Final = re.compile(r"\$\{(id|id_base64|env:[A-Za-z_][A-Za-z0-9_]*)\}")


def build_audit(
    spec: AuditSpec | None,
    requests: tuple[Request, ...],
    model: LoadModel,
    *,
    failover: Failover | None,
    mistakes: Mistakes,
) -> Audit | None:
    """The audit of a scenario; what is wrong with it is noted."""
    if spec is None:
        return None
    if model is LoadModel.CLOSED:
        # An id follows from the time at which its arrival was due.
        mistakes.add("audit", "closed load", "open load", rests_on=("load.model",))
    request = next((one for one in requests if one.name == spec.request), None)
    if request is None:
        known = "one of: " + ", ".join(one.name for one in requests)
        mistakes.add("audit.request", shown(spec.request), known, rests_on=("requests",))
    _check_id(spec, request, mistakes)
    _check_read(spec, mistakes)
    if spec.read.over is ReadOver.NODES:
        _check_nodes(failover, mistakes)
    read = spec.read
    return Audit(
        request=spec.request,
        id=spec.id,
        read=AuditRead(
            method=read.method,
            path=read.path,
            headers=tuple(read.headers.items()),
            body=read.body,
            copies=read.copies,
            present=tuple(sorted(set(read.present))),
            absent=tuple(sorted(set(read.absent))),
            over=read.over,
        ),
        timeout_ns=spec.timeout,
        reads_per_s=spec.rate,
    )


def _check_nodes(failover: Failover | None, mistakes: Mistakes) -> None:
    """Two nodes that can be asked; those of the harness's own system always can."""
    nodes = () if failover is None else failover.nodes_of(is_new=False)
    is_own = failover is not None and failover.system is System.OWN
    if len([node for node in nodes if node.url or not is_own]) < READS_OVER_NODES:
        expected = "two [[failover.nodes]] with their URLs, not of the version of a rollout"
        mistakes.add("audit.read.over", '"nodes"', expected, rests_on=("failover.nodes",))


def _check_id(spec: AuditSpec, request: Request | None, mistakes: Mistakes) -> None:
    placeholders = _PLACEHOLDER.findall(spec.id)
    kinds = {placeholder.partition(":")[0] for placeholder in placeholders}
    if "seq" not in kinds or not kinds <= {"seq", "run"}:
        expected = "a text with ${seq}, and ${run} where ids of other runs may be there"
        mistakes.add("audit.id", shown(spec.id), expected)
    if request is not None and not any(spec.id in text for text in _texts(request)):
        expected = f"the text of audit.id, {shown(spec.id)}, in its path, headers, body or message"
        mistakes.add("audit.request", shown(request.name), expected, rests_on=("audit.id",))


def _texts(request: Request) -> list[str]:
    """Where a request may have the id."""
    body = b"" if request.body is None else request.body
    sources = [] if request.call is None else list(_sources(request.call.message))
    headers = [value for _, value in request.headers]
    return [request.path, *headers, *(one.decode("utf-8", "replace") for one in (body, *sources))]


def _sources(parts: Iterable[Part]) -> Iterator[bytes]:
    """Texts with placeholders in a message, however deep."""
    for part in parts:
        match part:
            case Text():
                yield part.source
            case Delimited():
                yield from _sources(part.parts)


def _check_read(spec: AuditSpec, mistakes: Mistakes) -> None:
    read = spec.read
    texts = [read.path, read.body or "", *read.headers.values()]
    if not any(ID in text or ID_BASE64 in text for text in texts):
        mistakes.add("audit.read", "no ${id}", "${id} or ${id_base64} in path, headers or body")
    for text in texts:
        rest = _IN_READ.sub("", text)
        if "${" in rest:
            mistakes.add("audit.read", shown(text), "${id}, ${id_base64} or ${env:NAME} alone")
    if read.copies is not None and read.copies and not read.copies.startswith("/"):
        mistakes.add("audit.read.copies", shown(read.copies), 'a JSON pointer, such as "/count"')
    if both := set(read.present) & set(read.absent):
        mistakes.add("audit.read.absent", f"{min(both)}", "no status that also says present")


def id_template(plan: Plan, run_id: str) -> Template:
    """Makes the id of every arrival's write from its number."""
    if plan.audit is None:
        raise UnitError("a plan with an audit")
    return compile_template(
        plan.audit.id.encode(), run_id=run_id, seed=plan.seed, feeds=(), environment={},
        where="audit.id",
    )  # fmt: skip
