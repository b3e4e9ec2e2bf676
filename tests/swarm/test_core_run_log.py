"""Logs: one line a record, whatever is in it; JSON that brings hosts together."""

from __future__ import annotations

import json
import logging

import pytest

from loadtests.record.event import Event
from loadtests.swarm.run_log import JsonLines, Lines


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    """A warning of the bus."""
    made = logging.LogRecord(
        "loadtests.swarm.bus", logging.WARNING, "", 1, message, arguments, None
    )
    made.created = 1_800_000_000.25
    vars(made).update(run_id="run-7", **extra)
    return made


def test_json_has_the_run_and_an_events_parts() -> None:
    """Time in UTC, level, message with its arguments, event with its fields."""
    event = Event(at_unix_ns=1, kind="agent_lost", who="a", text="gone", fields={"silence_s": 2.5})
    line = json.loads(JsonLines().format(record("%s: %s", "a", "gone", event=event)))
    assert line == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "level": "warning",
        "logger": "loadtests.swarm.bus",
        "run_id": "run-7",
        "message": "a: gone",
        "event": "agent_lost",
        "who": "a",
        "fields": {"silence_s": 2.5},
    }


@pytest.mark.parametrize("form", [JsonLines(), Lines()])
def test_a_peers_words_cannot_forge_a_line(form: logging.Formatter) -> None:
    """Line breaks and escape sequences are shown, not obeyed; letters of all scripts stay."""
    text = form.format(record("refused %s", 'ü\n2027-01-15 error "run-8" \x1b[31m'))
    assert "\n" not in text
    assert "\x1b" not in text
    assert "ü" in text


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    """In JSON as a field of its own."""
    try:
        int("inside")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: invalid literal" in json.loads(JsonLines().format(made))["traceback"]
    assert Lines().format(made).count("warning run-7 failed") == 1
