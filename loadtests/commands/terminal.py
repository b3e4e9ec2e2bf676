"""What commands print with: results to standard output, progress and errors to standard error.

Colours and live displays appear on a terminal only; NO_COLOR and dumb terminals are
honoured by rich. Piped output is plain, and as wide as it needs to be: nothing is cut.
Texts are printed as they are: rich's markup and emoji are off, because names and messages
come from files and targets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

import msgspec
from rich.console import Console
from rich.text import Text

from analysis.text import clean

PIPED_WIDTH = 100_000
_LONGEST_LINE = 2000


def after_a_while(terminal: Terminal, every_s: float = 2.0) -> Callable[[str], None]:
    """Says what it is told, but at most every few seconds, and nothing in the first ones."""
    due_s = time.monotonic() + every_s

    def say(text: str) -> None:
        nonlocal due_s
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + every_s
            terminal.say(text)

    return say


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let it through: rich would exit with 1, which is FAIL."""
        raise BrokenPipeError


def _harmless(text: str) -> str:
    """Names in a message come from strangers: no control characters, no line without end."""
    return "\n".join(clean(line, _LONGEST_LINE) for line in text.split("\n"))


class Terminal:
    """Two consoles over the streams that the command line was given."""

    def __init__(self, *, stdout: TextIO, stderr: TextIO) -> None:
        self.out = self._console(stdout)
        self.err = self._console(stderr)
        self.stdout = stdout

    @staticmethod
    def _console(stream: TextIO) -> Console:
        width = None if stream.isatty() else PIPED_WIDTH
        return _Console(file=stream, highlight=False, markup=False, emoji=False, width=width)

    def say(self, text: str) -> None:
        """One line of progress, to standard error."""
        self.err.print(_harmless(text), soft_wrap=True)

    def error(self, text: str) -> None:
        """An error, to standard error."""
        line = Text.assemble(("error:", "bold red"), f" {_harmless(text)}")
        self.err.print(line, soft_wrap=True)

    def json(self, value: object) -> None:
        """One JSON document, to standard output."""
        encoded = msgspec.json.encode(value, order="sorted")
        self.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
