"""Calls of every shape against foreign servers: sizes, statuses, deadlines, compression."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance_plans import (
    MEGABYTE,
    SHAPES,
    answer_of,
    carry_out,
    conformance_plan,
    counts_of,
    kinds_of,
    latencies_of,
    ordered,
    over_tls,
)
from proxies import PROXIES
from servers import KINDS, Limits, Server, serve
from test_engine_tls import Authority

from loadtests.clock import NS_PER_MS
from loadtests.plan.call import CallShape, Compression, FieldEquals
from loadtests.plan.model import Request
from loadtests.record.window import Count, Kind

pytestmark = pytest.mark.interop

_TEXT = "wrong: 100 % \u00fcml\u00e4ut, \u6f22\u5b57; a+b=c"
_CLIENT_CODES = {1, 3, 5, 6, 7, 9, 11, 12, 16}  # measurement.md, Outcomes


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server of each kind, for all tests here."""
    with serve(request.param, tmp_path_factory.mktemp("server")) as made:
        yield made


def _said(shape: CallShape, messages: int) -> int:
    """Messages that a call of ours sends."""
    return messages if shape in (CallShape.CLIENT_STREAM, CallShape.BIDIRECTIONAL) else 1


def _every_shape(payload: bytes, messages: int, **changes: Any) -> list[Request]:
    """A call of each shape whose answers are checked to the byte, and to what came before."""
    fields = {"responses": messages, "response_bytes": len(payload), "payload": payload}
    requests = []
    for method, shape in SHAPES.items():
        checks: tuple[FieldEquals, ...] = (answer_of(len(payload)),)
        if shape is not CallShape.BIDIRECTIONAL:  # whose answers each have a number of their own
            received = _said(shape, messages) * len(payload)
            checks += (FieldEquals(path="received_bytes", value=received),)
        said = _said(shape, messages)
        requests.append(ordered(method, fields, messages=said, checks=checks, **changes))
    return requests


@pytest.mark.parametrize(
    ("size_bytes", "messages", "pace_ms", "level"),
    [(64, 5, 2, 200), (0, 1, 0, 40), (MEGABYTE, 3, 0, 12)],
)
def test_every_shape(
    server: Server, size_bytes: int, messages: int, pace_ms: int, level: float
) -> None:
    """Small, empty and 1 MB messages: all ok, and both sides count the same messages."""
    requests = _every_shape(b"x" * size_bytes, messages, pace_ns=pace_ms * NS_PER_MS)
    result, seen = carry_out(server, conformance_plan(server.port, requests, level=level))
    sent = counts_of(result, Count.SENT)
    assert (result.kinds(), result.final.ok) == ({}, level)
    assert seen.calls == sent
    assert seen.messages == {n: sent[n] * _said(SHAPES[n], messages) for n in SHAPES}
    assert seen.payload_bytes == {n: count * size_bytes for n, count in seen.messages.items()}
    received = counts_of(result, Count.BYTES_RECEIVED)
    for name in ("Unary", "Upload"):
        assert received[name] >= sent[name] * size_bytes
    for name in ("Download", "Talk"):
        assert received[name] >= sent[name] * size_bytes * messages
        assert latencies_of(result, name, Kind.FIRST_MESSAGE) == sent[name]
    assert latencies_of(result, "Download", Kind.MESSAGE) == sent["Download"] * (messages - 1)
    assert latencies_of(result, "Talk", Kind.MESSAGE) == sent["Talk"] * messages


@pytest.mark.parametrize("kind", PROXIES)
def test_every_shape_over_tls(kind: str, tmp_path: Path) -> None:
    """h2 is agreed on by ALPN with OpenSSL's servers, and all is as without."""
    authority = Authority(tmp_path, "good")
    certificate, key = (Path(name).read_text() for name in authority.issue("127.0.0.1"))
    pem = tmp_path / "both.pem"
    pem.write_text(certificate + key)
    requests = _every_shape(b"x" * MEGABYTE, 2)
    with serve(kind, tmp_path, Limits(pem=str(pem))) as server:
        plan = conformance_plan(server.port, requests, level=12)
        result, seen = carry_out(server, over_tls(plan, authority))
    assert (result.kinds(), result.final.ok) == ({}, 12)
    assert seen.calls == counts_of(result, Count.SENT)


def test_packed_messages(server: Server, tmp_path: Path) -> None:
    """Requests in gzip are read, and so are answers: packed, or plain from grpc-js."""
    payload = b"x" * 20_000
    requests = _every_shape(payload, 3, compression=Compression.GZIP)
    with serve(server.kind, tmp_path, Limits(packs=True)) as packing:
        result, seen = carry_out(packing, conformance_plan(packing.port, requests, level=60))
    assert (result.kinds(), result.final.ok) == ({}, 60)
    assert sum(seen.calls.values()) == 60
    assert result.total(Count.BYTES_SENT) < 60 * len(payload) // 4
    assert (result.total(Count.BYTES_RECEIVED) < 60 * len(payload) // 4) == (
        server.kind != "grpc-js"
    )


@pytest.mark.parametrize("answers", [0, 2])
def test_every_status(server: Server, answers: int) -> None:
    """Codes in trailers, alone or behind messages: each counted once, its text legible."""
    requests = [
        ordered(
            method,
            {"responses": answers, "code": code, "text": _TEXT, "detail": bytes(range(256))},
            name=f"{method}-{code}",
            messages=_said(shape, max(1, answers)),
        )
        for code in (1, 2, 3, 4, 5, 8, 9, 11, 13, 14, 15, 16)
        for method, shape in SHAPES.items()
    ]
    result, seen = carry_out(server, conformance_plan(server.port, requests, level=200))
    sent = counts_of(result, Count.SENT)
    assert sum(seen.calls.values()) == result.final.sent == 200
    assert result.final.ok == 0
    assert kinds_of(result) == {n: {f"grpc_{n.split('-')[1]}": sent[n]} for n in sent}
    for method in ("Download", "Talk"):
        mine = {n: counts for n, counts in sent.items() if n.startswith(method)}
        heard = sum(latencies_of(result, name, Kind.FIRST_MESSAGE) for name in mine)
        assert heard == (sum(mine.values()) if answers or method == "Talk" else 0)
    client = sum(n for name, n in sent.items() if int(name.split("-")[1]) in _CLIENT_CODES)
    assert result.final.client_error == client
    assert all(_TEXT in text for text in result.merged.messages.values())


def _renamed(request: Request) -> Request:
    assert request.call is not None
    called = dataclasses.replace(request.call, method="headroom.interop.Conformance/Nothing")
    return dataclasses.replace(request, call=called)


@pytest.mark.parametrize("size_bytes", [0, MEGABYTE])
def test_unknown_methods(server: Server, size_bytes: int) -> None:
    """What a server does not have is UNIMPLEMENTED, and often said before all was sent."""
    fields: dict[str, object] = {"payload": b"x" * size_bytes}
    known = [ordered(method, fields, messages=_said(s, 3)) for method, s in SHAPES.items()]
    requests = [_renamed(request) for request in known]
    result, seen = carry_out(server, conformance_plan(server.port, requests, level=40))
    assert result.kinds() == {"grpc_12": 40}, result.merged.messages
    assert result.final.client_error == 40
    assert seen.calls == {}
    assert result.histogram(Kind.CONNECT).n == 2


def test_deadlines(server: Server) -> None:
    """Who gives up first, the server or we: each call ends once, and connections stay."""
    slow = [
        ordered(
            method,
            {"responses": 2, "delay_us": 5_000_000},
            name=f"{method}-slow",
            messages=_said(shape, 2),
            timeout_ns=150 * NS_PER_MS,
        )
        for method, shape in SHAPES.items()
    ]
    quick = [ordered(method, {"responses": 1}, weight=2.0) for method in SHAPES]
    result, seen = carry_out(server, conformance_plan(server.port, [*slow, *quick], level=120))
    sent, kinds = counts_of(result, Count.SENT), kinds_of(result)
    for request in slow:
        assert set(kinds[request.name]) <= {"timeout", "grpc_4"}
        assert sum(kinds[request.name].values()) == sent[request.name] > 0
    assert set(kinds) == {request.name for request in slow}
    assert counts_of(result, Count.OK) == {request.name: sent[request.name] for request in quick}
    assert result.histogram(Kind.CONNECT).n == 2
    assert sum(seen.calls.values()) <= result.final.sent
