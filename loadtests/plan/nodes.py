"""The target of a scenario or of the command line: nodes, and TLS to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from loadtests.plan.call import Protocol
from loadtests.plan.model import Node, Request, Tls
from loadtests.plan.spec import NodeSpec, TargetSpec
from loadtests.plan.targets import parse_node, parse_target
from loadtests.plan.values import Mistakes, shown

MOST_NODES: Final = 1000
_AUTHORITY: Final = re.compile(r"[A-Za-z0-9._~\[\]:-]{1,255}")  # RFC 3986 section 3.2, no user


def _node(spec: NodeSpec) -> Node:
    return parse_node(spec.url, name=spec.name, weight=float(spec.weight), grpc=spec.grpc)


def build_nodes(spec: TargetSpec, targets: Sequence[str], mistakes: Mistakes) -> tuple[Node, ...]:
    """The nodes of the command line where it names some, else the scenario's."""
    entries: list[tuple[str, str, Callable[[], Node]]] = [
        (f"--target[{index}]", text, partial(parse_target, text))
        for index, text in enumerate(targets)
    ] or [
        (f"target.nodes[{index}]", node.url, partial(_node, node))
        for index, node in enumerate(spec.nodes)
    ]
    nodes: list[Node] = []
    for where, seen, parse in entries:
        if mistakes.is_refused(f"{where}.url") or mistakes.is_refused(f"{where}.grpc"):
            continue
        node = mistakes.attempt(where, seen, parse)
        if node is not None and node.name in [other.name for other in nodes]:
            mistakes.add(where, shown(node.name), "a name of its own for each node")
        elif node is not None:
            nodes.append(node)
    if not 1 <= len(entries) <= MOST_NODES:
        mistakes.add("target.nodes", f"{len(entries)} nodes", f"1 to {MOST_NODES} nodes")
    return tuple(nodes)


def build_tls(
    spec: TargetSpec, nodes: Sequence[Node], ca_pem: str | None, mistakes: Mistakes
) -> Tls | None:
    """TLS settings, the defaults where a node is https; None where nothing is said or needed."""
    tls = spec.tls
    if tls is None:
        schemes = {node.scheme for node in nodes} | {n.grpc.scheme for n in nodes if n.grpc}
        if "https" not in schemes:
            return None
        return Tls(
            verify=True,
            ca_pem=None,
            client_certificate_path=None,
            client_key_path=None,
            server_name=None,
        )
    if (tls.client_certificate is None) != (tls.client_key is None):
        mistakes.add("target.tls", "one of client_certificate, client_key", "both or none")
    return Tls(
        verify=tls.verify,
        ca_pem=ca_pem,
        client_certificate_path=tls.client_certificate,
        client_key_path=tls.client_key,
        server_name=tls.server_name,
    )


def check_target(
    spec: TargetSpec, nodes: Sequence[Node], requests: Sequence[Request], mistakes: Mistakes
) -> None:
    """What the keys of `[target]` say about the protocols of the requests."""
    protocols = {request.protocol for request in requests}
    if spec.protocol is Protocol.GRPC:
        expected = 'one of "http1", "http2": a request whose method is "pkg.Service/Method" is gRPC'
        mistakes.add("target.protocol", shown(spec.protocol.value), expected)
    if requests and protocols <= {Protocol.HTTP1}:
        for key, value in (("keepalive", spec.keepalive), ("authority", spec.authority)):
            if value is not None:
                expected = "nothing: no request uses HTTP/2"
                rests_on = ("target.protocol", "requests")
                mistakes.add(f"target.{key}", "a value", expected, rests_on=rests_on)
    if spec.authority is not None and _AUTHORITY.fullmatch(spec.authority) is None:
        mistakes.add("target.authority", shown(spec.authority), 'a host, such as "api.test:443"')
    if Protocol.GRPC in protocols:
        for index, node in enumerate(nodes):
            if node.grpc is None and node.base_path:
                where = f"target.nodes[{index}]"
                expected = "a URL without a path, or one in its grpc key: calls have no prefix"
                mistakes.add(where, shown(node.base_path), expected)
