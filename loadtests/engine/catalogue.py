"""The request bytes of a plan, prepared before the run.

Every slot has its bytes ready when they never change; the others are rendered
in batches by the plan's templates and put behind or around what differs between nodes.
Author's headers win over the default ones. The law: a request's Content-Length is the
length of the body that is sent, for every sequence.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic_ns
from typing import Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from loadtests.engine.http1 import Expected
from loadtests.engine.outcome import ANY_2XX
from loadtests.engine.recorder import SLOT_BITS
from loadtests.engine.stream_source import StreamSource
from loadtests.engine.task import Parcel, Task
from loadtests.plan.call import Protocol
from loadtests.plan.cells import Cells
from loadtests.plan.model import Feed, Node, Plan, Request
from loadtests.plan.rows import Values
from loadtests.plan.template import Template, compile_template

_NODE: Final = b"\x00"  # stands for "end of request line and Host header", differing by node
_LENGTH: Final = b"\x01"  # stands for the length of a body that varies
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_LONG_STEP_NS: Final = 60_000
_MOST_ROWS: Final = 128  # in one step, where rows are made one by one
_CUT_ROWS: Final = 512  # in one step, where NumPy has made them
_TOGETHER_BYTES: Final = 8 << 20

T = TypeVar("T")
_ROOM: Final = cast("Parcel", None)  # for a parcel that comes later
Integers = NDArray[np.int64]
Objects = NDArray[np.object_]


def task_of(request: Request, index: int, *, is_logged: bool = False) -> Task:
    """Extract the task of a plan's request."""
    is_head = request.method == "HEAD"
    expected_statuses = frozenset(request.expected_statuses) or ANY_2XX
    return Task(
        index=index,
        expected_statuses=expected_statuses,
        # What is looked at one by one: checks, and writes, which are logged.
        unchecked_statuses=frozenset() if request.checks or is_logged else expected_statuses,
        checks=request.checks,
        timeout_ns=request.timeout_ns,
        expected=Expected(is_head=is_head, keeps_body=bool(request.checks)),
    )


def _headers(request: Request, length: bytes | None) -> list[tuple[bytes, bytes]]:
    given = {name.lower() for name, _ in request.headers}
    headers = [(name.encode(), value.encode()) for name, value in request.headers]
    for name, value in ((b"User-Agent", b"headroom"), (b"Accept", b"*/*")):
        if name.decode().lower() not in given:
            headers.append((name, value))
    if length is not None:
        headers.append((b"Content-Length", length))
    return headers


class _Source:
    """One request as a template, and how a rendering becomes the bytes for a node."""

    __slots__ = ("_betweens", "_heads", "_prefixes", "_template", "_varies", "tasks")

    def __init__(
        self,
        request: Request,
        index: int,
        nodes: Sequence[Node],
        *,
        run_id: str,
        seed: int,
        feeds: tuple[Feed, ...],
        environment: Mapping[str, str],
        is_logged: bool,
    ) -> None:
        def compiled(source: bytes, where: str) -> Template:
            return compile_template(
                source,
                run_id=run_id,
                seed=seed,
                feeds=feeds,
                environment=environment,
                where=f"requests.{request.name}.{where}",
            )

        self.tasks: Sequence[Task] = [task_of(request, index, is_logged=is_logged)] * len(nodes)
        body = request.body or b""
        length_bytes = compiled(body, "body").length
        self._varies = length_bytes is None
        length = _LENGTH if length_bytes is None else b"%d" % length_bytes
        has_length = request.body is not None or request.method in _WITH_BODY
        headers = _headers(request, length if has_length else None)
        has_host = any(name.lower() == "host" for name, _ in request.headers)
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        head = request.path.encode() + _NODE + lines + b"\r\n"
        method = request.method.encode()
        self._prefixes = [method + b" " + node.base_path.encode() for node in nodes]
        self._betweens = [
            b" HTTP/1.1\r\n" + (b"" if has_host else b"Host: %b\r\n" % node.authority.encode())
            for node in nodes
        ]
        constant_head = compiled(head, "head")
        self._heads: list[bytes] | None = None
        if constant_head.is_constant and not self._varies:
            # The usual case: what is rendered only has to be put behind the node's head.
            rendered = constant_head.render(0)
            self._heads = [self._placed(rendered, node) for node in range(len(nodes))]
            self._template = compiled(body, "body")
        else:
            # One template for path, headers and body: positions, and so values, all differ.
            self._template = compiled(head + body, "bytes")

    @property
    def is_constant(self) -> bool:
        """True when every sequence has the same bytes on a node."""
        return self._template.is_constant

    @property
    def widest(self) -> int:
        """Bytes that differ between sequences at most, and those between them."""
        return self._template.widest

    def _placed(self, rendered: bytes, node: int) -> bytes:
        return self._prefixes[node] + rendered.replace(_NODE, self._betweens[node], 1)

    def _for_node(self, rendered: bytes, node: int) -> bytes:
        if self._heads is not None:
            return self._heads[node] + rendered
        if self._varies:
            head, separator, body = rendered.partition(b"\r\n\r\n")
            rendered = head.replace(_LENGTH, b"%d" % len(body), 1) + separator + body
        return self._placed(rendered, node)

    def constant(self, node: int) -> bytes:
        """Return the bytes that every sequence has on this node."""
        return self._for_node(self._template.render(0), node)

    def columns_of(self, sequences: Integers) -> Iterator[Values]:
        """Columns of the template's values, made when they are taken."""
        return self._template.columns_of(sequences)

    def payloads(
        self, columns: Sequence[Values], sequences: Integers, nodes: Integers
    ) -> Iterator[bytes]:
        """Bytes for each sequence on its node."""
        rows = self._template.rows(columns, sequences.size)
        rendered = zip(rows, nodes.tolist(), strict=True)
        heads = self._heads
        if heads is not None:
            return (heads[node] + data for data, node in rendered)
        return (self._for_node(data, node) for data, node in rendered)


def _source(
    plan: Plan, request: Request, index: int, *, run_id: str, environment: Mapping[str, str]
) -> _Source | StreamSource:
    """Make the source of a request's bytes, by its protocol."""
    if request.protocol is Protocol.HTTP1:
        return _Source(
            request,
            index,
            plan.nodes,
            run_id=run_id,
            seed=plan.seed,
            feeds=plan.feeds,
            environment=environment,
            is_logged=plan.is_audited(request.name),
        )
    return StreamSource(plan, request, index, run_id=run_id, environment=environment)


@dataclass(slots=True)
class _Pace:
    """How many rows of a request make a step: what is compressed, or large, takes long."""

    rows: int = 1

    def note(self, took_ns: int) -> None:
        """Learn from a step."""
        if took_ns > _LONG_STEP_NS:
            self.rows = max(1, self.rows // 2)
        elif took_ns < _LONG_STEP_NS // 3:
            self.rows = min(2 * self.rows, _MOST_ROWS)


def finished(steps: Generator[None, None, T]) -> T:
    """Take all steps; what they make."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made


def _objects(values: Sequence[object]) -> Objects:
    """An array of anything: gathered by slot, its values cost half of a list's."""
    array = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):  # at once, NumPy would look into a sequence
        array[at] = value
    return array


@dataclass(frozen=True, slots=True)
class _Rows:
    """Payloads of one request, a sequence and a node each."""

    source: _Source | StreamSource
    sequences: Integers
    nodes: Integers

    def made(self, pace: _Pace) -> Generator[None, None, tuple[list[bytes], Integers]]:
        """Make all of them, a step at a time; payloads and their sizes."""
        columns = []
        for column in self.source.columns_of(self.sequences):
            columns.append(column)
            yield
        rows = self.source.payloads(columns, self.sequences, self.nodes)
        yield
        payloads: list[bytes] = []
        if isinstance(rows, Cells):
            for begin in range(0, self.sequences.size, _CUT_ROWS):
                payloads += rows.part(slice(begin, begin + _CUT_ROWS)).texts()
                yield
            return payloads, np.broadcast_to(np.asarray(rows.lengths), self.sequences.size)
        rows = iter(rows)
        while len(payloads) < self.sequences.size:
            began_ns = monotonic_ns()
            payloads += islice(rows, min(pace.rows, self.sequences.size - len(payloads)))
            pace.note(monotonic_ns() - began_ns)
            yield
        return payloads, np.fromiter(map(len, payloads), dtype=np.int64, count=len(payloads))


class Catalogue:
    """All requests of a plan as parcels, for one engine."""

    __slots__ = (
        "_node_of",
        "_paces",
        "_payloads",
        "_request_of",
        "_sizes",
        "_sources",
        "_tasks",
        "_undated",
        "_varying",
        "_widths",
    )

    def __init__(self, plan: Plan, *, run_id: str, environment: Mapping[str, str]) -> None:
        self._sources = [
            _source(plan, request, index, run_id=run_id, environment=environment)
            for index, request in enumerate(plan.requests)
        ]
        nodes = len(plan.nodes)
        self._node_of = np.arange(len(plan.slots)) % nodes
        self._request_of = np.arange(len(plan.slots)) // nodes % len(plan.slots.requests)
        self._varying = [
            index for index, source in enumerate(self._sources) if not source.is_constant
        ]
        self._paces = [_Pace() for _ in self._sources]
        # By slot; payloads are b"" where they differ between sequences, and widths 0 where not.
        # The last rows of a stage are those of connections: no arrival has their slots.
        tasks, payloads = list[Task](), list[bytes]()
        self._widths = np.zeros(len(plan.slots), dtype=np.int64)
        for slot, request in enumerate(self._request_of.tolist()):
            source, node = self._sources[min(request, len(self._sources) - 1)], slot % nodes
            is_ready = source.is_constant and request < len(self._sources)
            tasks.append(source.tasks[node])
            payloads.append(source.constant(node) if is_ready else b"")
            self._widths[slot] = 0 if source.is_constant else source.widest
        self._tasks, self._payloads = _objects(tasks), _objects(payloads)
        self._sizes = np.array(list(map(len, payloads)), dtype=np.int64)
        codes = (self._sizes << SLOT_BITS | np.arange(len(payloads))).tolist()
        # The parcels of closed load, which is due when it leaves, where no payload varies.
        self._undated = [(0, *of) for of in zip(codes, tasks, payloads, strict=True)]

    def most_together(self, slots: Integers, most: int) -> int:
        """How many of these arrivals, from the first on, are worth preparing together.

        Fewer where large bodies differ between sequences: all are in memory at once.
        """
        widths = self._widths[slots[:most]]
        return max(1, int(np.searchsorted(np.cumsum(widths), _TOGETHER_BYTES, side="right")))

    def prepare(
        self, dues_ns: Sequence[int], sequences: Integers, slots: Integers
    ) -> Generator[None, None, list[Parcel]]:
        """Make the parcel of each arrival, in order; a step at a time.

        `dues_ns` are the intended times. A step is a column of values (some 0.1 ms) or as many
        rows of bytes as take some 40 us, in which nothing that is due can leave. Many at a time
        take a quarter of what each takes when it is sent (`make bench`, gRPC).
        """
        payloads, sizes = yield from self._rendered(sequences, slots)
        codes, tasks = (sizes << SLOT_BITS | slots).tolist(), self._tasks[slots].tolist()
        yield
        columns = zip(dues_ns, codes, tasks, payloads, strict=True)
        parcels = [_ROOM] * len(payloads)  # a list that grows is moved again and again
        for begin in range(0, len(payloads), _CUT_ROWS):
            parcels[begin : begin + _CUT_ROWS] = islice(columns, _CUT_ROWS)
            yield
        return parcels

    def _rendered(
        self, sequences: Integers, slots: Integers
    ) -> Generator[None, None, tuple[list[bytes], Integers]]:
        """Payload of each arrival, and its size; what varies is made a step at a time."""
        if len(self._sources) == 1 and self._varying:  # nothing to tell apart
            rows = _Rows(self._sources[0], sequences, self._node_of[slots])
            yield
            return (yield from rows.made(self._paces[0]))
        payloads, sizes = self._payloads[slots], self._sizes[slots]
        requests = self._request_of[slots]
        for request in self._varying:
            places = np.flatnonzero(requests == request)
            if places.size:
                nodes = self._node_of[slots[places]]
                rows = _Rows(self._sources[request], sequences[places], nodes)
                yield
                payloads[places], sizes[places] = yield from rows.made(self._paces[request])
        return payloads.tolist(), sizes

    def parcels(self, dues_ns: Sequence[int], sequences: Integers, slots: Integers) -> list[Parcel]:
        """All of `prepare` at once."""
        return finished(self.prepare(dues_ns, sequences, slots))

    @property
    def is_ready(self) -> bool:
        """True where no payload varies: nothing is left to be made."""
        return not self._varying

    def undated(self, sequences: Integers, slots: Integers) -> list[Parcel]:
        """Return parcels of closed load; where no payload varies they are ready, and shared."""
        if self.is_ready:
            return list(map(self._undated.__getitem__, slots.tolist()))
        return self.parcels([0] * len(slots), sequences, slots)
