"""`headroom cluster`: the embedded cluster in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtests.cluster.foreground import serve
from loadtests.cluster.launch import Cluster
from loadtests.cluster.options import ServerTls
from loadtests.commands.options import Commands, add_json, port, positive_int
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, Mistake, ScenarioError


def add_parser(commands: Commands) -> None:
    """Nodes, first ports, and where accepted transactions are kept."""
    parser = commands.add_parser(
        "cluster",
        help="run the embedded cluster on loopback",
        description="Runs a small real cluster on loopback: a stand-in, not Aurigraph.",
        epilog="example: headroom cluster --nodes 4 --rest-port 9003 --grpc-port 9104\n"
        "         headroom cluster --rest-port 0 --grpc-port 0 --json   one line, when ready",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=positive_int, default=4, help="processes (default: 4)")
    parser.add_argument(
        "--rest-port",
        type=port,
        default=9003,
        metavar="PORT",
        help="port of the first node, the others follow; 0 takes free ones (default: 9003)",
    )
    parser.add_argument(
        "--grpc-port",
        type=port,
        default=9104,
        metavar="PORT",
        help="the same for gRPC (default: 9104)",
    )
    parser.add_argument(
        "--no-grpc", dest="grpc_port", action="store_const", const=None, help="serve REST alone"
    )
    parser.add_argument("--grpc-certificate", type=Path, metavar="FILE", help="TLS for gRPC: PEM")
    parser.add_argument("--grpc-key", type=Path, metavar="FILE", help="its private key: PEM")
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="keep accepted transactions in this SQLite file (default: a temporary one)",
    )
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Serve until a signal."""
    tls = _tls(arguments.grpc_certificate, arguments.grpc_key)

    def start() -> Cluster:
        return Cluster.start(
            nodes=arguments.nodes,
            rest_port=arguments.rest_port,
            grpc_port=arguments.grpc_port,
            grpc_tls=tls,
            store=arguments.store,
        )

    return serve(start, terminal.stdout, as_json=arguments.json)


def _tls(certificate: Path | None, key: Path | None) -> ServerTls | None:
    if certificate is not None and key is not None:
        return ServerTls(certificate=certificate, key=key)
    if certificate is None and key is None:
        return None
    given = "--grpc-key" if certificate is None else "--grpc-certificate"
    expected = "--grpc-certificate and --grpc-key together"
    mistake = Mistake(where="options", seen=f"{given} alone", expected=expected)
    raise ScenarioError("headroom cluster", (mistake,))
