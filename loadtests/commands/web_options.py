"""Options of the web UI, and the terms that they come to; Locust's names where it has any."""

from __future__ import annotations

import argparse
import os

from loadtests.commands.options import port
from loadtests.errors import Mistake, ScenarioError
from loadtests.swarm.web_door import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    TOKEN_VARIABLE,
    LiveWeb,
    build_door,
    wish_of,
)

LIVE_JUDGE = "loadtests.commands.provisional"  # a process of its own
_FLAGS = ("--web-login", "--web-read-only", "--web-without-tls")
_VALUES = ("--web-name", "--tls-cert", "--tls-key")


def add_web(parser: argparse.ArgumentParser) -> None:
    """`--web` and on what terms."""
    group = parser.add_argument_group(
        "web UI", "beyond loopback it needs --web-login and TLS, or it does not open"
    )
    group.add_argument(
        "--web", action="store_true", help="open the web UI: Locust's, and /headroom"
    )
    group.add_argument(
        "--web-host",
        default=DEFAULT_HOST,
        metavar="ADDR",
        help=f"address of the web UI (default: {DEFAULT_HOST})",
    )
    group.add_argument(
        "--web-port",
        type=port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help=f"port of the web UI; 0 takes a free one (default: {DEFAULT_PORT})",
    )
    group.add_argument(
        "--web-login",
        action="store_true",
        help=f"ask for the token that is in the environment as {TOKEN_VARIABLE}",
    )
    group.add_argument(
        "--web-read-only", action="store_true", help="show the run, and let nobody stop it there"
    )
    group.add_argument(
        "--web-name",
        action="append",
        default=[],
        metavar="NAME",
        help="host name by which browsers may reach it, besides addresses; may be repeated",
    )
    group.add_argument("--tls-cert", default="", metavar="FILE", help="its certificate chain, PEM")
    group.add_argument("--tls-key", default="", metavar="FILE", help="its key, PEM, unencrypted")
    group.add_argument(
        "--web-without-tls",
        action="store_true",
        help="open it beyond loopback without TLS: whoever is on the network can read the token "
        "and the run (behind a proxy that ends TLS, say)",
    )


def web_of(arguments: argparse.Namespace) -> LiveWeb | None:
    """The web UI that was asked for; ScenarioError with all that is wrong with the wish."""
    if not arguments.web:
        _refuse_orphans(arguments)
        return None
    wish = wish_of(arguments, host=arguments.web_host)
    return LiveWeb(door=build_door(wish, os.environ), judge=LIVE_JUDGE)


def _refuse_orphans(arguments: argparse.Namespace) -> None:
    """An option of a web UI that nobody opens would be a wish forgotten in silence."""
    given = [
        option
        for option in (*_FLAGS, *_VALUES)
        if getattr(arguments, option.removeprefix("--").replace("-", "_"))
    ]
    if given:
        mistake = Mistake(where=given[0], seen="no --web", expected="--web with it")
        raise ScenarioError("web UI", (mistake,))
