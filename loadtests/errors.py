"""Error families, by whose fault it is.

Every error that a user can meet is one of these. Each carries what was seen, what was
expected and where, and composes its own message; the command line maps a family to an
exit code and never prints a traceback for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `headroom` command."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    ABORTED = 4
    HARNESS = 5
    BROKEN_PIPE = 141  # who read the output has gone: as shells report SIGPIPE


class HeadroomError(Exception):
    """Root of the families; `exit_code` is what the command line returns for it."""

    exit_code = ExitCode.HARNESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake of an author: where it is, what was seen, what was expected."""

    where: str
    seen: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: saw {self.seen}; expected {self.expected}"


class ScenarioError(HeadroomError):
    """The author's fault: all mistakes of a scenario, command line or configuration at once."""

    exit_code = ExitCode.USAGE

    def __init__(self, source: str, mistakes: tuple[Mistake, ...]) -> None:
        self.source = source
        self.mistakes = mistakes
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{source}: {count}\n{lines}")


class TargetError(HeadroomError):
    """The system under load cannot be used: not reachable, not healthy, not authorised."""

    exit_code = ExitCode.ABORTED

    def __init__(self, *, where: str, seen: str, expected: str) -> None:
        self.where, self.seen, self.expected = where, seen, expected
        super().__init__(f"{where}: saw {seen}; expected {expected}")


class HarnessError(HeadroomError):
    """Our fault or our host's: disk full, a worker that did not come, a broken archive."""

    def __init__(self, *, where: str, seen: str, expected: str) -> None:
        self.where, self.seen, self.expected = where, seen, expected
        super().__init__(f"{where}: saw {seen}; expected {expected}")
