"""HAProxy before the nodes of a stand: its configuration, and where it is installed.

REST and gRPC are a frontend and a backend each; a node is a server of the same name in both.
Both are checked over the node's REST health, as readiness is one for a node. A request whose
connection to a node fails is sent to another one (`retries`, `redispatch`); one that a node
has taken is never sent twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.clock import NS_PER_MS
from loadtests.plan.failover import Haproxy

REST, GRPC = "rest", "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A node as HAProxy reaches it; `check` is where its health is asked, all host:port.

    `weight` (0..256) is its part of the traffic; HAProxy's own default is 1.
    """

    name: str
    rest: str
    grpc: str
    check: str
    weight: int = 1


def find_haproxy() -> str | None:
    """Its path, also where Debian puts it; None when it is not installed.

    $HEADROOM_HAPROXY names another one; `none` stands for a host without.
    """
    if named := os.environ.get("HEADROOM_HAPROXY"):
        return None if named == "none" else named
    sbin = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    return shutil.which("haproxy", path=sbin)


def _checks(haproxy: Haproxy) -> str:
    return (
        f"check inter {haproxy.inter_ns // NS_PER_MS}ms "
        f"fastinter {haproxy.fastinter_ns // NS_PER_MS}ms fall {haproxy.fall} rise {haproxy.rise}"
    )


def _backend(
    name: str, servers: Sequence[tuple[Server, str]], haproxy: Haproxy, words: str, health: str
) -> str:
    lines = "\n".join(
        f"  server {one.name} {address} {words}{_checks(haproxy)} weight {one.weight} "
        f"port {one.check.rpartition(':')[2]} addr {one.check.rpartition(':')[0]} check-proto h1"
        for one, address in servers
    )
    return f"""
backend {name}
  balance roundrobin
  option httpchk GET {health}
  http-check expect rstatus ^2
  timeout check {haproxy.check_timeout_ns // NS_PER_MS}ms
{lines}
"""


def write_configuration(
    path: Path,
    *,
    servers: Sequence[Server],
    haproxy: Haproxy,
    health: str,
    rest_bind: str,
    grpc_bind: str | None,
) -> None:
    """Frontends at `rest_bind` and `grpc_bind` (host:port), HTTP/2 without TLS for gRPC."""
    text = f"""global
  stats socket {haproxy.admin} mode 600 level admin
  maxconn 4000
defaults
  mode http
  retries 3
  option redispatch 1
  timeout connect 1s
  timeout client 120s
  timeout server 60s
  timeout tunnel 120s
frontend {REST}-front
  bind {rest_bind}
  default_backend {REST}
{_backend(REST, [(one, one.rest) for one in servers], haproxy, "", health)}"""
    if grpc_bind is not None:
        text += f"""frontend {GRPC}-front
  bind {grpc_bind} proto h2
  default_backend {GRPC}
{_backend(GRPC, [(one, one.grpc) for one in servers], haproxy, "proto h2 ", health)}"""
    path.write_text(text, encoding="utf-8")
