"""100,000 calls with each foreign server, and every one of them on both sides' books."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import descriptors
from conformance_plans import answer_of, ordered
from grpc_plans import run_many
from servers import KINDS, serve

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_calls(kind: str, tmp_path: Path) -> None:
    """The server has seen as many as were sent, all were answered, half of them looked into."""
    fields: dict[str, object] = {"response_bytes": 64, "payload": b"x" * 64}
    requests = [
        ordered("Unary", fields, name="looked into", checks=(answer_of(64),)),
        ordered("Unary", fields, name="passed"),
    ]
    with serve(kind, tmp_path) as server:
        server.seen()
        result = run_many(server.port, requests, least=100_000, descriptors=descriptors())
        seen = server.seen()
    assert seen.calls == {"Unary": result.final.sent}
    assert seen.payload_bytes == {"Unary": 64 * result.final.sent}
