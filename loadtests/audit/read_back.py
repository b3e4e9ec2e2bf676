"""Reads every logged write back, each from a node that did not take it.

Behind a load balancer nobody knows which node took a write: with `over = "nodes"` each write is
read from two of `[failover]`'s nodes, so that one at least did not take it. What they disagree
about counts against the target: absent on one, or there on one though refused.

A read that does not say is tried on the other nodes, and again in later rounds; one that
never says stays unread, and the audit is then incomplete. An acknowledged write that is absent
is looked for again in every round: a node may be a moment behind. Nothing is written to the
target. Only nodes of the plan are asked, at addresses that are loopback or authorised.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from loadtests.audit.answers import copies_in
from loadtests.clock import NS_PER_S
from loadtests.engine.tls import build_context
from loadtests.plan.audit import ID, ID_BASE64, READS_OVER_NODES, id_template
from loadtests.plan.call import Endpoint
from loadtests.plan.connecting import http_connection
from loadtests.plan.model import Audit, Node, Plan, ReadOver
from loadtests.plan.targets import parse_node
from loadtests.plan.write_ids import match_writes
from loadtests.record.archive import Run
from loadtests.record.read_back import UNREAD, ReadRow

_READERS: Final = 16  # they wait for answers, most of the time
_ROUNDS: Final = 5  # a moment apart, before an id stays unread
_PAUSE_S: Final = 0.5
_MOST_BODY_BYTES: Final = 1 << 20
_ENVIRONMENT: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """One id and the index of the node that took it, or of one to be asked last."""

    sequence: int
    id: str
    node: int
    is_acknowledged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Whom reads go to: nodes, and how many of them each write is read from."""

    nodes: tuple[Node, ...]
    reads: int


def _asked(plan: Plan) -> _Asked:
    """The target's own nodes, or `[failover]`'s where the scenario says so.

    After a rollout those of the version before: the new one may be as slow as it was then.
    """
    old = () if plan.failover is None else plan.failover.nodes_of(is_new=False)
    behind = tuple(node for node in old if node.url)
    if plan.audit is None or plan.audit.read.over is ReadOver.TARGET:
        return _Asked(nodes=plan.nodes, reads=1)
    nodes = tuple(parse_node(one.url, name=one.name, weight=1.0) for one in behind)
    return _Asked(nodes=nodes, reads=READS_OVER_NODES)


class _Reader:
    """Connections of one thread, one to each node."""

    def __init__(self, asked: _Asked, plan: Plan, audit: Audit, authorised: Sequence[str]) -> None:
        self._nodes = asked.nodes
        self._plan, self._audit, self._authorised = plan, audit, authorised
        self._connections: dict[int, http.client.HTTPConnection] = {}

    def read(self, write: _Write, number: int) -> int | str:
        """Copies of a write on a node, or why that is not known."""
        node, read = self._nodes[number], self._audit.read
        headers = {name: _filled(value, write.id) for name, value in read.headers}
        body = None if read.body is None else _filled(read.body, write.id)
        path = node.base_path + _filled(read.path, quote(write.id, safe=""))
        try:
            connection = self._connection(number, node)
            connection.request(read.method, path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read(_MOST_BODY_BYTES)
            if answer.length:
                self._forget(number)  # the rest would be taken for the next answer
            return copies_in(read, answer.status, content)
        except (OSError, http.client.HTTPException) as error:
            self._forget(number)
            return f"{type(error).__name__}: {error}"

    def _connection(self, number: int, node: Node) -> http.client.HTTPConnection:
        found = self._connections.get(number)
        if found is None:
            is_tls = node.scheme == "https"
            found = self._connections[number] = http_connection(
                Endpoint(scheme=node.scheme, host=node.host, port=node.port),
                self._authorised,
                timeout_s=self._audit.timeout_ns / NS_PER_S,
                context=build_context(self._plan.tls, alpn="http/1.1") if is_tls else None,
            )
        return found

    def _forget(self, number: int) -> None:
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.close()


def _filled(text: str, id_: str) -> str:
    text = text.replace(ID, id_).replace(ID_BASE64, base64.b64encode(id_.encode()).decode())
    return _ENVIRONMENT.sub(lambda match: os.environ.get(match[1], ""), text)


def _order(write: _Write, nodes: int) -> Iterator[int]:
    """The nodes to ask: others than the one that took the write, and that one last."""
    for step in range(1, nodes + 1):
        yield (write.node + step) % nodes


def _writes(run: Run, plan: Plan, asked: _Asked) -> list[_Write]:
    rows = run.writes[run.writes["due_ns"] >= 0]
    slots = rows["slot"].to_numpy("int64")
    matched = match_writes(plan, rows["due_ns"].to_numpy("int64"), slots)
    template = id_template(plan, run.manifest.run_id)
    ids = template.render_many(matched.sequences)
    takers = slots[matched.entries] % len(plan.nodes)
    nodes = (matched.sequences % len(asked.nodes) if asked.reads > 1 else takers).tolist()
    acknowledged = (rows["outcome"] == "ok").to_numpy()[matched.entries].tolist()
    return [
        _Write(sequence=sequence, id=id_.decode(), node=node, is_acknowledged=is_ok)
        for sequence, id_, node, is_ok in zip(
            matched.sequences.tolist(), ids, nodes, acknowledged, strict=True
        )
    ]


def read_back(
    run: Run,
    plan: Plan,
    authorised: Sequence[str],
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[ReadRow, ...]:
    """Read every write of the log back; `on_progress` gets how many of how many are done."""
    audit = plan.audit
    assert audit is not None, "a plan with an audit"
    asked, local = _asked(plan), threading.local()
    writes, pace = _writes(run, plan, asked), _Pace(audit.reads_per_s)

    def read(write: _Write) -> ReadRow:
        if not hasattr(local, "reader"):
            local.reader = _Reader(asked, plan, audit, authorised)
        return _read_one(local.reader, write, asked, pace)

    rows: dict[int, ReadRow] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for turn in range(_ROUNDS):
            left = [write for write in writes if _is_open(write, rows.get(write.sequence))]
            if turn and left:
                time.sleep(_PAUSE_S)
            for row in pool.map(read, left):
                rows[row.sequence] = row
                on_progress(len(rows), len(writes))
    return tuple(rows.values())


class _Pace:
    """Spaces reads evenly, over all threads."""

    def __init__(self, per_s: float) -> None:
        self._gap_s, self._next_s = 1 / per_s, time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until the next read may be sent."""
        with self._lock:
            now_s = time.monotonic()
            at_s = self._next_s = max(self._next_s, now_s) + self._gap_s
        time.sleep(max(0.0, at_s - self._gap_s - now_s))


def _is_open(write: _Write, row: ReadRow | None) -> bool:
    """Whether a later round could find what this one did not."""
    if row is None or row.copies == UNREAD:
        return True
    return write.is_acknowledged and row.copies == 0


def _read_one(reader: _Reader, write: _Write, asked: _Asked, pace: _Pace) -> ReadRow:
    """Ask the nodes in turn until enough of them say."""
    failure, said = "", dict[str, int]()
    for number in _order(write, len(asked.nodes)):
        pace.wait()
        found = reader.read(write, number)
        if isinstance(found, int):
            said[asked.nodes[number].name] = found
        else:
            failure = found
        if len(said) == asked.reads:
            return ReadRow(
                sequence=write.sequence, id=write.id, node=", ".join(said),
                copies=_together(list(said.values()), write), failure="",
            )  # fmt: skip
    if said:
        failure = f"only {', '.join(said)} said; {failure}"
    return ReadRow(
        sequence=write.sequence, id=write.id, node="", copies=UNREAD, failure=failure[:200]
    )


def _together(copies: Sequence[int], write: _Write) -> int:
    """What several nodes say of one write: the worse for the target."""
    return 0 if write.is_acknowledged and 0 in copies else max(copies)
