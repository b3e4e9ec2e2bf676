"""The command line: parse, hand over to a command, turn error families into exit codes.

It owns nothing else. `dispatch` takes its arguments and streams, so that tests call it; a
user's mistake is answered with a sentence and an exit code, never with a traceback.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from traceback import format_exc
from types import ModuleType
from typing import Final, TextIO

from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, HeadroomError
from loadtests.swarm.run_log import write_logs

# In the order of the help text: whose module has the command. The others stay unloaded, with the
# numerics and plots that they need: two seconds, of which an agent, or `--version`, needs nothing.
MODULES: Final[Mapping[str, str]] = {
    "demo": "demo", "run": "run", "worker": "worker", "stop": "stop", "check": "check",
    "keys": "keys", "cluster": "cluster", "calibrate": "calibrate", "size": "size",
    "failover": "failover", "runs": "archive", "show": "archive", "verify": "archive",
    "report": "report", "compare": "compare", "trend": "trend", "capacity": "capacity",
    "baseline": "baseline", "nightly": "nightly", "prune": "prune",
}  # fmt: skip
EPILOG = """\
exit codes: 0 PASS, 1 FAIL, 2 usage or scenario error, 3 INCONCLUSIVE,
            4 aborted by the user or a guard, 5 harness error

example: headroom demo
         headroom check scenarios/smoke.toml
         headroom run scenarios/smoke.toml --target http://127.0.0.1:9003
"""


def load_commands(argv: Sequence[str]) -> list[ModuleType]:
    """Modules of the command that is asked for; of all where help, or a mistake, lists them."""
    first = argv[0] if argv else ""
    if first == "--version":
        return []
    asked = [MODULES[first]] if first in MODULES else dict.fromkeys(MODULES.values())
    return [import_module(f"loadtests.commands.{name}") for name in asked]


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command of these arguments with its options; without any, all commands."""
    parser = argparse.ArgumentParser(
        prog="headroom",
        description="Drives REST and gRPC load on a known schedule, measures it, judges it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"headroom {version('headroom')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in load_commands(argv):
        module.add_parser(commands)
    return parser


def dispatch(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> ExitCode:
    """Run one command and return its exit code."""
    try:
        arguments = build_parser(argv).parse_args(argv)
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
        if "log_level" in arguments:
            write_logs(arguments.log_level, arguments.log_format)
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
