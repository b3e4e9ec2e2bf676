"""The `headroom` command's entry: guarded before anything is loaded.

Loading the commands takes a second, in which Ctrl-C would strike somewhere inside an
import; until they are loaded nothing runs, so it ends the process with a word and the
exit code of an abort. After the command's end no signal changes its exit code any more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from loadtests.commands.interrupts import ending_at_once, ignore_from_now_on
from loadtests.errors import ExitCode


def main(argv: Sequence[str], stdout: TextIO, stderr: TextIO) -> ExitCode:
    """Run one command and return its exit code."""
    with ending_at_once():
        from loadtests.commands.dispatch import (  # noqa: PLC0415 - guarded, see above
            dispatch,
            load_commands,
        )

        load_commands(argv)
    return dispatch(argv, stdout, stderr)


def console() -> None:
    """Entry point of the `headroom` command."""
    code = main(sys.argv[1:], sys.stdout, sys.stderr)
    ignore_from_now_on()
    sys.exit(code)
