"""Plain HTTP questions to nodes: health, and who leads. Short, bounded, without retries."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from jsonpointer import JsonPointer, JsonPointerException

from loadtests.failover.strike import FaultError
from loadtests.plan.call import Endpoint
from loadtests.plan.connecting import http_connection
from loadtests.plan.failover import FaultNode, LeaderQuery
from loadtests.plan.host import own_authorised_hosts

MOST_BYTES: Final = 1024 * 1024
LEADER_TIMEOUT_S: Final = 1.0


def ask(
    url: str, path: str, timeout_s: float, *, method: str = "GET", body: str = ""
) -> tuple[int, bytes]:
    """Status and body; OSError or HTTPException when there is no answer."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = http_connection(
        Endpoint(scheme=parts.scheme, host=host, port=port),
        own_authorised_hosts(),
        timeout_s=timeout_s,
        context=None,
    )
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, parts.path.rstrip("/") + path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read(MOST_BYTES)
    finally:
        connection.close()


def get_status(url: str, path: str, timeout_s: float) -> int:
    """Status of a GET."""
    return ask(url, path, timeout_s)[0]


def find_leader(nodes: Sequence[FaultNode], query: LeaderQuery) -> FaultNode:
    """Who leads, as the nodes say; FaultError when none names one of them.

    Every node is asked, so that one which is cut off and still believes in its old leader
    is outvoted: the answer that most of them give counts.
    """
    votes: dict[str, int] = {}
    seen: list[str] = []
    for node in nodes:
        try:
            named = _named(node, query)
        except (OSError, http.client.HTTPException, ValueError, JsonPointerException) as error:
            seen.append(f"{node.name}: {error}")
            continue
        if named is not None:
            votes[named] = votes.get(named, 0) + 1
    by_name = {node.name: node for node in nodes}
    for name in sorted(votes, key=lambda name: votes[name], reverse=True):
        if name in by_name:
            return by_name[name]
    text = "; ".join(seen) or f"answers that name {sorted(votes) or 'nobody'}"
    raise FaultError(where="leader", seen=text, expected="nodes that name one of them as leader")


def _named(node: FaultNode, query: LeaderQuery) -> str | None:
    """The leader that a node names; with `own`, the node itself when it leads."""
    status, body = ask(node.url, query.path, LEADER_TIMEOUT_S, method=query.method, body=query.body)
    if status != http.client.OK:
        raise ValueError(f"{query.path} answers {status}")
    document = json.loads(body)
    value = JsonPointer(query.pointer).resolve(document)
    if query.own is None:
        return None if value in (None, "") else str(value)
    is_leader = str(value) == str(JsonPointer(query.own).resolve(document))
    return node.name if is_leader else None
