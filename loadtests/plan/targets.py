"""Base URLs into nodes: http or https, a host, a port, perhaps a path prefix.

A URL with a user name or password is refused (secrets are not kept), and so are queries
and fragments, which a base URL cannot mean.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from loadtests.plan.model import Node
from loadtests.plan.units import UnitError

URL_EXPECTED: Final = (
    'a base URL such as "http://127.0.0.1:9003" or "https://api.example.org/prefix"'
)
_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
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
        return _HOST.fullmatch(host) is not None
    return True


def parse_node(url: str, *, name: str | None, weight: float) -> Node:
    """The node of a base URL, named host:port unless named; UnitError otherwise."""
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
        grpc=None,
    )
