"""The command line: parse, hand over to a command, turn error families into exit codes.

It owns nothing else. `dispatch` takes its arguments and streams, so that tests call it; a
user's mistake is answered with a sentence and an exit code, never with a traceback.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from traceback import format_exc
from typing import TextIO

from loadtests.commands import (
    archive,
    baseline,
    calibrate,
    capacity,
    check,
    cluster,
    compare,
    demo,
    failover,
    keys,
    nightly,
    prune,
    report,
    run,
    size,
    stop,
    trend,
    worker,
)
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, HeadroomError

COMMANDS = (
    demo, run, worker, stop, check, keys, cluster, calibrate, size, failover,
    archive, report, compare, trend, capacity, baseline, nightly, prune,
)  # fmt: skip
EPILOG = """\
exit codes: 0 PASS, 1 FAIL, 2 usage or scenario error, 3 INCONCLUSIVE,
            4 aborted by the user or a guard, 5 harness error

example: headroom demo
         headroom check scenarios/smoke.toml
         headroom run scenarios/smoke.toml --target http://127.0.0.1:9003
"""


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(
        prog="headroom",
        description="Drives REST and gRPC load on a known schedule, measures it, judges it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"headroom {version('headroom')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def dispatch(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> ExitCode:
    """Run one command and return its exit code."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as ended:  # argparse has printed help, version or usage
        return ExitCode.PASS if ended.code in (0, None) else ExitCode.USAGE
    try:
        code = _execute(arguments, Terminal(stdout=stdout, stderr=stderr))
        stdout.flush()
    except BrokenPipeError:  # `headroom show latest | head`: no verdict was handed over
        _discard(stdout, stderr)
        return ExitCode.BROKEN_PIPE
    return code


def _execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    try:
        code: ExitCode = arguments.execute(arguments, terminal)
    except HeadroomError as error:
        terminal.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return ExitCode.ABORTED
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001 - Python's own exit code would be that of FAIL
        terminal.error(f"a fault of Headroom itself; please report it\n{format_exc()}")
        return ExitCode.HARNESS
    return code


def _discard(*streams: TextIO) -> None:
    """What is left in buffers goes nowhere, or the interpreter's end would fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        with suppress(OSError):  # a stream of a test has no descriptor
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
