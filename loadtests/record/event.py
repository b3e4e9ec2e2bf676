"""What happened in a run besides requests: one JSON line each in `events.jsonl`.

Faults, agents that joined or were lost, takeovers, aborts. The vocabulary of `kind` is
open (each room names its own), the shape is not. A torn last line, as a crash leaves it,
is dropped and counted; any other damage is an error.
"""

from __future__ import annotations

from typing import Final

import msgspec

from loadtests.errors import HarnessError

EventValue = str | int | float | bool | None


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event; `kind` in snake case, `who` an agent, engine, node or "master"."""

    at_unix_ns: int
    kind: str
    who: str
    text: str  # a sentence for the report
    fields: dict[str, EventValue]


_DECODER: Final = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """One line of JSON with its newline."""
    return msgspec.json.encode(event) + b"\n"


def decode_events(data: bytes, where: str) -> tuple[tuple[Event, ...], int]:
    """Return the events and the bytes of a torn last line; HarnessError on other damage."""
    *lines, torn = data.split(b"\n")
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(_DECODER.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HarnessError(
                where=f"{where}, line {number}", seen=str(error), expected="an event as JSON"
            ) from error
    return tuple(events), len(torn)
