"""Options that several commands share, and argparse types that explain themselves."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

RESULTS = Path("results")

if TYPE_CHECKING:
    # argparse's type of a subparsers object is private, and generic for mypy only.
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - see above
else:
    Commands = argparse._SubParsersAction  # noqa: SLF001 - see above


def positive_float(text: str) -> float:
    """A finite number above zero."""
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"saw {text!r}; expected a number above 0")
    return value


def positive_int(text: str) -> int:
    """A whole number above zero."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"saw {text!r}; expected a whole number above 0")
    return value


def port(text: str) -> int:
    """A TCP port."""
    value = int(text)
    if not 0 <= value <= 65_535:  # noqa: PLR2004 - the range of a port
        raise argparse.ArgumentTypeError(f"saw {text!r}; expected a port from 0 to 65535")
    return value


def engines(text: str) -> int | None:
    """A number of engines, or None for `auto`."""
    return None if text == "auto" else positive_int(text)


def address(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT` or `[IPV6]:PORT`."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, port(rest[1:]) if rest.startswith(":") else None
    host, colon, number = text.rpartition(":")
    if colon and ":" not in host:
        return host, port(number)
    return text, None


def add_results(parser: argparse.ArgumentParser) -> None:
    """`--results`: where archives and baseline tables live."""
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder of archives and baseline tables (default: results)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: the same table as a JSON document on standard output."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Options that change how a scenario resolves to a plan."""
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="URL[,grpc=URL]",
        help="base URL of a node, and that of its gRPC port where it is another one "
        "(http://h:9003,grpc=http://h:9004), instead of the scenario's; repeat for several",
    )
    parser.add_argument(
        "--scale",
        type=positive_float,
        default=1.0,
        help="multiply every rate and throughput objective (a scaled run says so everywhere)",
    )
    parser.add_argument("--seed", type=int, help="seed of arrivals, mix and payloads")
