"""Options that several commands share, and argparse types that explain themselves."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from loadtests.errors import Mistake, ScenarioError
from loadtests.swarm.run_log import FORMATS, LEVELS

RESULTS = Path("results")
DEFAULT_MASTER_PORT: Final = 5557  # Locust's own
_HIGHEST: Final = 2**63 - 1
_MOST: Final = 10**9  # of anything that is counted by hand

if TYPE_CHECKING:
    # argparse's type of a subparsers object is private, and generic for mypy only.
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - see above
else:
    Commands = argparse._SubParsersAction  # noqa: SLF001 - see above


def _refuse(text: str, expected: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"saw {text!r}; expected {expected}")


def positive_float(text: str) -> float:
    """A finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not math.isfinite(value) or value <= 0:
        _refuse(text, "a number above 0")
    return value


def ratio(text: str) -> float:
    """A number between 0 and 1, neither included."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        _refuse(text, "a number between 0 and 1, such as 0.05")
    return value


def whole(text: str, lowest: int, highest: int, expected: str) -> int:
    """A whole number between limits, both included."""
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if not lowest <= value <= highest:
        _refuse(text, expected)
    return value


def positive_int(text: str) -> int:
    """A whole number above zero."""
    return whole(text, 1, _MOST, f"a whole number from 1 to {_MOST}")


def seed(text: str) -> int:
    """A seed."""
    return whole(text, 0, _HIGHEST, f"a whole number from 0 to {_HIGHEST}")


def port(text: str) -> int:
    """A TCP port."""
    return whole(text, 0, 65_535, "a port from 0 to 65535")


def engines(text: str) -> int | None:
    """A number of engines, or None for `auto`."""
    expected = f"a whole number from 1 to {_MOST}, or auto"
    return None if text == "auto" else whole(text, 1, _MOST, expected)


def address(text: str) -> tuple[str, int | None]:
    """`HOST`, `HOST:PORT` or `[IPV6]:PORT`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not host or not bracket or (rest and not rest.startswith(":")):
            _refuse(text, "HOST, HOST:PORT or [IPV6]:PORT")
        return host, port(rest[1:]) if rest else None
    host, colon, number = text.rpartition(":")
    if colon and ":" not in host:
        if not host:
            _refuse(text, "HOST, HOST:PORT or [IPV6]:PORT")
        return host, port(number)
    if not text:
        _refuse(text, "HOST, HOST:PORT or [IPV6]:PORT")
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


def write_output(option: str, path: Path, data: bytes) -> None:
    """Write the file that an option asked for; ScenarioError when it cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        mistake = Mistake(
            where=option, seen=f"{str(path)!r}: {error.strerror}", expected="a file to write"
        )
        raise ScenarioError(option, (mistake,)) from error


def add_logs(parser: argparse.ArgumentParser) -> None:
    """`--log-level` and `--log-format`: what a long-lived process says of itself."""
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default="warning",
        help="log to standard error from this level on; info has the run's events "
        "(default: warning)",
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default="text",
        help="json: one object a line, with the run's id (default: text)",
    )


def key(parser: argparse.ArgumentParser, what: str) -> None:
    """`--key`: one of `headroom keys`, where it is not the obvious one."""
    parser.add_argument("--key", metavar="NAME", help=f"{what} (default: $HEADROOM_KEY)")


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
        metavar="FACTOR",
        help="multiply every rate and throughput objective (a scaled run says so everywhere)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of arrivals, mix and payloads, such as 42 (default: the scenario's)",
    )
