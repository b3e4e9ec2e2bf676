"""`headroom worker`: the agent of this host, with its engines, under a master's command."""

from __future__ import annotations

import argparse

from loadtests.commands.options import (
    DEFAULT_MASTER_PORT,
    Commands,
    add_logs,
    address,
    engines,
    key,
)
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode


def add_parser(commands: Commands) -> None:
    """Master's address and number of engines."""
    parser = commands.add_parser(
        "worker",
        help="send load from this host for a master",
        description="Joins a master as the agent of this host and starts its engines.",
        epilog="example: headroom worker --master 127.0.0.1:5557 --engines auto",
    )
    parser.add_argument(
        "--master", type=address, required=True, metavar="HOST[:PORT]", help="the master's address"
    )
    parser.add_argument(
        "--engines", type=engines, metavar="N|auto", help="engines, one a core (default: auto)"
    )
    add_logs(parser)
    key(parser, "the key to join with, and the agent's name, where this host has several")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Work until the master says quit."""
    from loadtests.swarm.keys import keys_of_agent  # noqa: PLC0415 - loads ZeroMQ

    host, number = arguments.master
    number = DEFAULT_MASTER_PORT if number is None else number
    keys = keys_of_agent(host, arguments.key)
    from loadtests.swarm.agent import run_worker  # noqa: PLC0415 - loads Locust, a second

    terminal.say(f"joining master {host}:{number}{f' as {keys.own.name}' if keys else ''}")
    return ExitCode(run_worker(host, number, engines=arguments.engines, keys=keys))
