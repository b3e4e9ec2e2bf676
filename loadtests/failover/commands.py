"""Commands that faults run: with a time limit, and nothing of them left when it is over.

A command is a list of words, never given to a shell. Words may hold `{node}`, `{zone}`,
`{fault}` and `{url}`; the same are in its environment as HEADROOM_NODE and so on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final

from loadtests.clock import NS_PER_S
from loadtests.failover.strike import Sight, Strike, fault_error

KEPT_BYTES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended; `text` is the end of what it said."""

    code: int
    text: str


def run_command(command: Sequence[str], strike: Strike) -> Finished:
    """Run to its end; FaultError when it cannot start or takes longer than the time limit."""
    words = {
        "node": strike.node.name,
        "zone": strike.node.zone,
        "fault": strike.fault,
        "url": strike.node.url,
    }
    filled = [_fill(word, words) for word in command]
    environment = {f"HEADROOM_{key.upper()}": value for key, value in words.items()}
    timeout_s = strike.settings.timeout_ns / NS_PER_S
    with tempfile.TemporaryFile() as said:  # not a pipe: a daemon that it starts keeps it open
        try:
            process = subprocess.Popen(  # noqa: S603 - the author's command, without a shell
                filled,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its children can be ended with it
                env={**os.environ, **environment},
            )
        except OSError as error:
            seen = f"{filled[0]}: {error}"
            raise fault_error(strike, seen, "a command that can be run") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            seen = f"{filled[0]} not ended after {timeout_s:g} s"
            raise fault_error(strike, seen, "a command that ends in time") from None
        return Finished(code=code, text=_end_of(said))


def _end_of(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - KEPT_BYTES))
    return said.read().decode(errors="replace").strip()


def _fill(word: str, words: dict[str, str]) -> str:
    for key, value in words.items():
        word = word.replace("{" + key + "}", value)
    return word


def must_succeed(command: Sequence[str], strike: Strike) -> None:
    """Run a command; FaultError unless it ends with 0."""
    ended = run_command(command, strike)
    if ended.code != 0:
        said = f": {ended.text}" if ended.text else ""
        raise fault_error(strike, f"{command[0]} ended with {ended.code}{said}", "an end with 0")


class Exec:
    """The user's own commands: kubectl, aws, ssh, systemctl."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Refuses a fault that its own check says is in force already."""
        if strike.settings.verify_command and self.look(strike).is_in_force:
            raise fault_error(strike, "verify_command ends with 0 before it", "no such fault yet")
        return {}

    def apply(self, strike: Strike) -> None:
        """Run `command`."""
        must_succeed(strike.settings.command, strike)

    def undo(self, strike: Strike) -> None:
        """Run `undo_command`, which must not mind being run again."""
        if strike.settings.undo_command:
            must_succeed(strike.settings.undo_command, strike)

    def look(self, strike: Strike) -> Sight:
        """`verify_command` ends with 0 as long as the fault is in force, with 1 when it is not.

        Any other end says nothing: a way that is cut (ssh: 255) is no sign that it is gone.
        """
        if not strike.settings.verify_command:
            text = "not verified: it has no verify_command"
            return Sight(is_in_force=None, is_gone=None, text=text)
        ended = run_command(strike.settings.verify_command, strike)
        said = f": {ended.text}" if ended.code > 1 and ended.text else ""
        text = f"verify_command ended with {ended.code}{said}"
        return Sight(is_in_force=ended.code == 0, is_gone=ended.code == 1, text=text)

    def repair(self, strike: Strike) -> str:
        """Its undo command."""
        return " ".join(strike.settings.undo_command) or f"(undo {strike.settings.command[0]})"
