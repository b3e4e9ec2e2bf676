"""What a node is started with, once it has been read from the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loadtests.cluster.behaviour import Behaviour
from loadtests.cluster.ledger import Durability


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Files in PEM of what a server shows its clients: certificate (chain) and private key."""

    certificate: Path
    key: Path


def show_address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What a node is started with; a port 0 takes a free one, `grpc_port` None serves no gRPC."""

    name: str
    host: str
    port: int
    grpc_port: int | None
    grpc_tls: ServerTls | None
    store: Path
    durability: Durability
    behaviour: Behaviour
    ground_truth: Path | None
    version: str  # what it says it is
