"""One plan, two clients: the engine and grpcio's own see and cause the same on each server."""

from __future__ import annotations

from collections import Counter

import pytest
from conformance_plans import (
    SHAPES,
    answer_of,
    carry_out,
    conformance_plan,
    counts_of,
    kinds_of,
    latencies_of,
    ordered,
)
from driver import RunResult
from reference import Outcome, walk
from servers import KINDS, serve

from loadtests.clock import NS_PER_S
from loadtests.engine.frames import HEAD_BYTES
from loadtests.engine.grpc import PREFIX
from loadtests.plan.call import CallShape, Compression, Number, NumberEncoding, Raw
from loadtests.plan.model import Request
from loadtests.plan.wire import tag
from loadtests.record.window import Count, Kind

pytestmark = pytest.mark.interop

_RESPONSE_BYTES = 2  # field number in Order
_PAYLOAD = b"y" * 300
_SPOKEN = 4  # messages of ours where we stream
_HEADS_BYTES = 400  # of an answer's head and trailers, at most
_LEAST_FRAME_BYTES = 2048  # servers cut messages into frames of at least about so much


def _said(shape: CallShape) -> int:
    return _SPOKEN if shape in (CallShape.CLIENT_STREAM, CallShape.BIDIRECTIONAL) else 1


def _requests() -> list[Request]:
    """Every shape ok, unpacked and packed, with an error, too late; and sizes that vary."""
    requests = []
    for method, shape in SHAPES.items():
        good = {"responses": 3, "response_bytes": 5000, "payload": _PAYLOAD}
        bad = {**good, "responses": 2, "code": 9, "text": "50 % \u00fc"}  # behind its answers
        late = {"responses": 1, "delay_us": 5_000_000, "payload": _PAYLOAD}
        said, checks = _said(shape), (answer_of(5000),)
        packed = {"compression": Compression.GZIP, "name": f"{method}-packed"}
        requests += [
            ordered(method, good, messages=said, checks=checks),
            ordered(method, good, messages=said, checks=checks, **packed),
            ordered(method, bad, messages=said, name=f"{method}-bad"),
            ordered(method, late, messages=said, name=f"{method}-late", timeout_ns=NS_PER_S),
        ]
    size = Number(source=b"${int:0:60000}", encoding=NumberEncoding.VARINT)
    varying = (Raw(data=tag(_RESPONSE_BYTES, 0)), size)
    return [*requests, ordered("Unary", name="Unary-varying", message=varying, weight=4.0)]


def _codes(result: RunResult) -> dict[str, Counter[int]]:
    """Codes of the engine's calls; its own deadline is what grpcio calls DEADLINE_EXCEEDED."""
    found = {name: Counter({0: count}) for name, count in counts_of(result, Count.OK).items()}
    for name, kinds in kinds_of(result).items():
        codes = found.setdefault(name, Counter())
        for kind, count in kinds.items():
            codes[4 if kind == "timeout" else int(kind.removeprefix("grpc_"))] += count
    return found


def _messages(result: RunResult, request: Request) -> int:
    """Messages that the engine took from the answers of a request."""
    assert request.call is not None
    first, later = (
        latencies_of(result, request.name, kind) for kind in (Kind.FIRST_MESSAGE, Kind.MESSAGE)
    )
    match request.call.shape:
        case CallShape.UNARY:
            return counts_of(result, Count.OK).get(request.name, 0)
        case CallShape.BIDIRECTIONAL:
            return later  # each message answers one of ours
        case _:
            return first + later


def _check_bytes(received: int, calls: int, outcome: Outcome) -> None:
    """All bytes of the messages, and of heads and frames no more than there can be."""
    least = outcome.message_bytes + PREFIX.size * outcome.messages
    frames = 2 * outcome.messages + outcome.message_bytes // _LEAST_FRAME_BYTES
    assert least <= received <= least + calls * _HEADS_BYTES + frames * HEAD_BYTES


@pytest.mark.parametrize("kind", KINDS)
def test_both_clients_agree(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Codes, counts of messages and their sizes by request; and what the server saw of them."""
    with serve(kind, tmp_path_factory.mktemp("server")) as server:
        plan = conformance_plan(server.port, _requests(), level=200)
        result, seen = carry_out(server, plan)
        outcomes = walk(plan)
        seen_of_reference = server.seen()
    codes, sent = _codes(result), counts_of(result, Count.SENT)
    received = counts_of(result, Count.BYTES_RECEIVED)
    for request in plan.requests:
        outcome = outcomes[request.name]
        assert codes[request.name] == outcome.codes, request.name
        assert _messages(result, request) == outcome.messages, request.name
        if not request.name.endswith(("-packed", "-late")):
            _check_bytes(received[request.name], sent[request.name], outcome)
    assert len(outcomes["Unary-varying"].sizes) > 20
    assert seen.calls == seen_of_reference.calls
    assert seen.messages == seen_of_reference.messages
    assert seen.payload_bytes == seen_of_reference.payload_bytes
