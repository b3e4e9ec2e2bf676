"""The stop file of a run: who may write in its folder can end it, without a socket or a signal.

A file named `stop` in `<run>.partial/` is the request, whatever made it (`headroom stop`,
`touch`, a script of the operator); its text is the reason. The run takes it within a tenth
of a second, removes it, and ends in order: no further request, then a complete archive that
says why.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from loadtests.record.files import replace_file

STOP_FILE: Final = "stop"
_MOST_BYTES: Final = 500


def ask_to_stop(run: Path, reason: str) -> None:
    """Ask the run that writes this folder to end; HarnessError when the folder refuses it."""
    replace_file(run / STOP_FILE, f"{reason}\n".encode()[:_MOST_BYTES])


def take_stop_request(run: Path) -> str | None:
    """The reason of a request, "" without one, and the file is gone; None when there is none."""
    path = run / STOP_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder, or unreadable: somebody meant it all the same
        return str(error.strerror)
    with suppress(OSError):
        path.unlink()
    return " ".join(text.decode(errors="replace").split())
