"""What commands print with: results to standard output, progress and errors to standard error.

Colours and live displays appear on a terminal only; NO_COLOR and dumb terminals are
honoured by rich. Piped output is plain and complete, 120 columns wide.
"""

from __future__ import annotations

from typing import TextIO

import msgspec
from rich.console import Console
from rich.markup import escape

PIPED_WIDTH = 120


class Terminal:
    """Two consoles over the streams that the command line was given."""

    def __init__(self, *, stdout: TextIO, stderr: TextIO) -> None:
        self.out = self._console(stdout)
        self.err = self._console(stderr)
        self.stdout = stdout

    @staticmethod
    def _console(stream: TextIO) -> Console:
        width = None if stream.isatty() else PIPED_WIDTH
        return Console(file=stream, highlight=False, width=width, soft_wrap=False)

    def say(self, text: str) -> None:
        """One line of progress, to standard error."""
        self.err.print(escape(text), soft_wrap=True)

    def error(self, text: str) -> None:
        """An error, to standard error."""
        self.err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)

    def json(self, value: object) -> None:
        """One JSON document, to standard output."""
        encoded = msgspec.json.encode(value, order="sorted")
        self.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
