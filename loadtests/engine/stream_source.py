"""The requests of a plan as they travel on HTTP/2 streams: heads as fields, bodies as bytes.

A head without placeholders is a tuple of fields, which every connection encodes once. One
with placeholders is encoded for every arrival, apart from any connection, and comes before
the body in the payload. A gRPC message stands in the body with its five-byte prefix.

The law: what a head says of its body (content-length, grpc-encoding) is true for every
sequence; where a body's length differs between sequences, its length is not said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.engine.checks import failed_check
from loadtests.engine.frames import U32
from loadtests.engine.grpc import framed, timeout_value
from loadtests.engine.http1 import Expected
from loadtests.engine.lanes import endpoint_of
from loadtests.engine.outcome import ANY_2XX
from loadtests.engine.request_heads import Field, plain_block
from loadtests.engine.task import Messages, StreamTask
from loadtests.plan.call import Call, Compression, Protocol
from loadtests.plan.message import compile_message
from loadtests.plan.model import Node, Plan, Request
from loadtests.plan.rows import Values
from loadtests.plan.template import Template, compile_template

_SEPARATOR: Final = b"\x00"  # between the values of a head that varies; none can hold it
_OUR_OWN: Final = frozenset({"host", "content-length", "connection", "transfer-encoding", "te"})

Sequences = NDArray[np.int64]
Compiler = Callable[[bytes, str], Template]


def _authority(plan: Plan, node: Node, protocol: Protocol) -> str:
    if plan.multiplexing.authority is not None:
        return plan.multiplexing.authority
    return endpoint_of(node, protocol).authority


def _given(request: Request) -> list[tuple[str, str]]:
    """The author's headers as HTTP/2 writes them (RFC 9113, 8.2): lower case, none of ours."""
    lower = [(name.lower(), value) for name, value in request.headers]
    return [(name, value) for name, value in lower if name not in _OUR_OWN]


def _call_fields(call: Call, timeout_ns: int) -> list[tuple[str, str]]:
    fields = [
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", timeout_value(timeout_ns).decode()),
        ("grpc-accept-encoding", "identity,gzip"),
    ]
    if call.compression is Compression.GZIP:
        fields.append(("grpc-encoding", "gzip"))
    return fields


def head_of(plan: Plan, request: Request, node: Node, length: int | None) -> list[tuple[str, str]]:
    """Write the fields of a request to a node; values may hold placeholders."""
    given = _given(request)
    names = {name for name, _ in given}
    path = f"/{request.call.method}" if request.call is not None else node.base_path + request.path
    host = next((value for name, value in request.headers if name.lower() == "host"), None)
    fields = [
        (":method", "POST" if request.call is not None else request.method),
        (":scheme", endpoint_of(node, request.protocol).scheme),
        (":path", path),
        (":authority", host or _authority(plan, node, request.protocol)),
    ]
    if request.call is not None:
        fields += _call_fields(request.call, request.timeout_ns)
        defaults = [("user-agent", "headroom")]
    else:
        defaults = [("user-agent", "headroom"), ("accept", "*/*")]
        if length is not None:
            defaults.append(("content-length", str(length)))
    fields += [field for field in defaults if field[0] not in names]
    ours = {name for name, _ in fields}  # what gRPC says of a call is not the author's to say
    return fields + [field for field in given if field[0] not in ours]


class StreamSource:
    """One request of the plan: its task for each node, and how its payloads are rendered."""

    __slots__ = ("_body", "_heads", "_is_packed", "_message", "tasks")

    def __init__(
        self,
        plan: Plan,
        request: Request,
        index: int,
        *,
        run_id: str,
        environment: Mapping[str, str],
    ) -> None:
        def compiled(source: bytes, where: str) -> Template:
            return compile_template(
                source,
                run_id=run_id,
                seed=plan.seed,
                feeds=plan.feeds,
                environment=environment,
                where=f"requests.{request.name}.{where}",
            )

        call = request.call
        compression = call.compression if call is not None else Compression.IDENTITY
        self._is_packed = compression is not Compression.IDENTITY
        self._message = (
            compile_message(
                call.message,
                run_id=run_id,
                seed=plan.seed,
                feeds=plan.feeds,
                environment=environment,
                where=f"requests.{request.name}.message",
                is_framed=not self._is_packed,
            )
            if call is not None
            else None
        )
        self._body = compiled(request.body or b"", "body")
        length = self._body.length if request.body is not None else None
        self._heads = [_Head(head_of(plan, request, node, length), compiled) for node in plan.nodes]
        self.tasks = [_task(plan, request, index, head.constant) for head in self._heads]

    @property
    def is_constant(self) -> bool:
        """True when every sequence has the same bytes on a node."""
        is_fixed = self._message.is_constant if self._message else self._body.is_constant
        return is_fixed and all(head.constant is not None for head in self._heads)

    @property
    def widest(self) -> int:
        """Bytes of a body or message at most."""
        return (self._body if self._message is None else self._message).widest

    def constant(self, node: int) -> bytes:
        """Return the payload that every sequence has on this node."""
        sequence = np.zeros(1, dtype=np.int64)
        return next(iter(self.payloads(list(self.columns_of(sequence)), sequence, sequence + node)))

    def columns_of(self, sequences: Sequences) -> Iterator[Values]:
        """Columns of the values of body or message, made when they are taken."""
        content = self._body if self._message is None else self._message
        return content.columns_of(sequences)

    def payloads(
        self, columns: Sequence[Values], sequences: Sequences, nodes: Sequences
    ) -> Iterable[bytes]:
        """Payload for each sequence on its node; cells where NumPy has them."""
        bodies = self._bodies(columns, sequences.size)
        if all(head.constant is not None for head in self._heads):
            return bodies
        heads = self._heads
        return (
            heads[node].block(sequence) + body
            for sequence, node, body in zip(sequences.tolist(), nodes.tolist(), bodies, strict=True)
        )

    def _bodies(self, columns: Sequence[Values], count: int) -> Iterable[bytes]:
        if self._message is None:
            return self._body.rows(columns, count)
        messages = self._message.rows(columns, count)
        if not self._is_packed:
            return messages
        if self._message.is_constant:
            return repeat(framed(next(iter(messages)), Compression.GZIP), count)
        return (framed(message, Compression.GZIP) for message in messages)


class _Head:
    """The fields of a request to one node; `constant` is None where a value varies."""

    __slots__ = ("_names", "_template", "constant")

    def __init__(self, fields: Sequence[tuple[str, str]], compiled: Compiler) -> None:
        self._names = [name.encode() for name, _ in fields]
        source = _SEPARATOR.join(value.encode() for _, value in fields)
        self._template = compiled(source, "head")
        self.constant: tuple[Field, ...] | None = None
        if self._template.is_constant:
            self.constant = tuple(self._fields(0))

    def _fields(self, sequence: int) -> list[Field]:
        values = self._template.render(sequence).split(_SEPARATOR)
        return list(zip(self._names, values, strict=True))

    def block(self, sequence: int) -> bytes:
        """Write the block of one sequence behind its length; b"" where the head is constant."""
        if self.constant is not None:
            return b""
        block = plain_block(self._fields(sequence))
        return U32.pack(len(block)) + block


def _checks_of(call: Call, descriptors: bytes) -> Callable[[bytes], str | None]:
    # Only checks need protobuf: an engine without any starts without it.
    from loadtests.plan.response import compile_checks  # noqa: PLC0415

    return compile_checks(call, descriptors)


def _task(plan: Plan, request: Request, index: int, fields: tuple[Field, ...] | None) -> StreamTask:
    call = request.call
    if call is not None:
        expected = frozenset(call.expected_codes)
        examine = _checks_of(call, plan.descriptors) if call.checks else None
        messages = Messages(
            shape=call.shape,
            count=call.messages,
            pace_ns=call.pace_ns,
            compression=call.compression,
        )
    else:
        expected = frozenset(request.expected_statuses) or ANY_2XX
        examine = partial(failed_check, request.checks) if request.checks else None
        messages = None
    return StreamTask(
        index=index,
        expected_statuses=expected,
        # What is looked at one by one: checks, and writes, which are logged.
        unchecked_statuses=(
            frozenset() if examine is not None or plan.is_audited(request.name) else expected
        ),
        checks=request.checks,
        timeout_ns=request.timeout_ns,
        expected=Expected(is_head=request.method == "HEAD", keeps_body=examine is not None),
        fields=fields,
        is_grpc=call is not None,
        keeps_body=examine is not None,
        examine=examine,
        messages=messages,
    )
