"""Logs of a master or an agent on standard error: text, or one JSON object a line.

Every record carries the run's id once there is one, so that lines of many hosts can be
brought together. The run's events are logged as well, at INFO, with their fields: the same
as in `events.jsonl`, at the moment they happen.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from loadtests.record.event import Event

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
_LOG: Final = logging.getLogger(__name__)


class _Stamp(logging.Filter):
    """Adds the run's id to every record of this process; one process drives one run."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.run_id = self.run_id
        return True


_STAMP: Final = _Stamp()


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, run_id, message, an event's parts."""

    def format(self, record: logging.LogRecord) -> str:
        """Encode a record; what is not JSON in it becomes text."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run_id": getattr(record, "run_id", ""),
            "message": record.getMessage(),
        }
        if (event := getattr(record, "event", None)) is not None:
            line |= {"event": event.kind, "who": event.who, "fields": event.fields}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class Lines(logging.Formatter):
    """Time, level, run and message; line breaks in a message cannot forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback after it where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        run_id = getattr(record, "run_id", "") or "-"
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
            for c in record.getMessage()
        )
        line = f"{at} {record.levelname.lower()} {run_id} {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def write_logs(level: str, form: str) -> None:
    """Send what this process logs, Locust's words among it, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Lines())
    handler.addFilter(_STAMP)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def name_run(run_id: str) -> None:
    """From now on every record is of this run."""
    _STAMP.run_id = run_id


def log_event(event: Event) -> None:
    """An event of the run, as it happens."""
    _LOG.info("%s: %s", event.who, event.text, extra={"event": event})
