"""Base URLs into nodes: http or https, a host, a port, perhaps a path prefix.

A URL with a user name or password is refused (secrets are not kept), and so are queries
and fragments, which a base URL cannot mean. A gRPC port has a URL of its own where it is
another one; that has no path, because a gRPC method is the whole path.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from loadtests.plan.addresses import HOST_NAME
from loadtests.plan.call import Endpoint
from loadtests.plan.model import Node
from loadtests.plan.units import UnitError

URL_EXPECTED: Final = (
    'a base URL such as "http://127.0.0.1:9003" or "https://api.example.org/prefix"'
)
ENDPOINT_EXPECTED: Final = 'a URL without a path, such as "http://127.0.0.1:9004"'
TARGET_SEPARATOR: Final = ",grpc="  # of --target: "http://h:9003,grpc=http://h:9004"
_PORTS: Final = {"http": 80, "https": 443}
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?")


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnitError(f"{URL_EXPECTED} ({error})") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise UnitError(URL_EXPECTED)
    if port == 0:
        raise UnitError(f"{URL_EXPECTED}, a port from 1 to 65535")
    return parts, _PORTS[parts.scheme] if port is None else port


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return HOST_NAME.fullmatch(host) is not None
    return True


def parse_endpoint(url: str) -> Endpoint:
    """The gRPC port of a node; UnitError otherwise."""
    try:
        node = parse_node(url, name=None, weight=1.0)
    except UnitError:
        raise UnitError(ENDPOINT_EXPECTED) from None
    if node.base_path:
        raise UnitError(ENDPOINT_EXPECTED)
    return Endpoint(scheme=node.scheme, host=node.host, port=node.port)


def parse_node(url: str, *, name: str | None, weight: float, grpc: str | None = None) -> Node:
    """The node of its URLs, named host:port of the first unless named; UnitError otherwise."""
    parts, port = _split(url)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise UnitError("a URL without user name or password (send them as ${env:NAME} header)")
    if parts.query or parts.fragment or _PREFIX.fullmatch(parts.path) is None:
        raise UnitError(f"{URL_EXPECTED}, without query or fragment")
    if not _is_host(host):
        raise UnitError(f"{URL_EXPECTED}, with a host name or address")
    shown_host = f"[{host}]" if ":" in host else host
    return Node(
        name=name or f"{shown_host}:{port}{parts.path.rstrip('/')}",
        scheme=parts.scheme,
        host=host,
        port=port,
        base_path=parts.path.rstrip("/"),
        weight=weight,
        grpc=None if grpc is None else parse_endpoint(grpc),
    )


def parse_target(text: str) -> Node:
    """A node of the command line: `URL` or `URL,grpc=URL`."""
    url, _, grpc = text.partition(TARGET_SEPARATOR)
    return parse_node(url, name=None, weight=1.0, grpc=grpc or None)
