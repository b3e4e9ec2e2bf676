"""`headroom cluster`: the embedded cluster in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtests.cluster.launch import serve
from loadtests.commands.options import Commands, add_json, port, positive_int
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode


def add_parser(commands: Commands) -> None:
    """Nodes, first port, and where accepted transactions are kept."""
    parser = commands.add_parser(
        "cluster",
        help="run the embedded cluster on loopback",
        description="Runs a small real cluster on loopback: a stand-in, not Aurigraph.",
        epilog="example: headroom cluster --nodes 4 --rest-port 9003\n"
        "         headroom cluster --rest-port 0 --json   one line, when the nodes are ready",
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
        "--store",
        type=Path,
        metavar="FILE",
        help="keep accepted transactions in this SQLite file (default: a temporary one)",
    )
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Serve until a signal."""
    return serve(
        nodes=arguments.nodes,
        rest_port=arguments.rest_port,
        store=arguments.store,
        as_json=arguments.json,
        out=terminal.stdout,
    )
