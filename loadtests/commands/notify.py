"""Tells people of a night, through Apprise: Slack, e-mail, webhooks, PagerDuty and others.

The URLs hold secrets: they come from environment variables, and neither they nor what a
service answers is ever written or printed. What is said of a failure is the variable's name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from analysis.text import clean
from loadtests.nightly.records import NightRecord, NightState

_LONGEST_LINE = 300
_MOST_STEPS = 40


def title_of(record: NightRecord) -> str:
    """The night in one line."""
    return clean(f"Headroom night {record.night}: {record.state.value} ({record.plan})")


def body_of(record: NightRecord) -> str:
    """What decided it, each step, and what happened besides: plain text."""
    return "\n".join(clean(line, _LONGEST_LINE) for line in _lines(record))


def _lines(record: NightRecord) -> Iterator[str]:
    yield record.why
    for step in record.steps[:_MOST_STEPS]:
        why = "" if step.state is NightState.PASS and not step.why else f" - {step.why}"
        yield f"{step.name}: {step.state.value}{why}"
    if record.missed:
        yield f"nights that were missed: {', '.join(record.missed)}"
    yield from record.notes


def send(
    variables: Sequence[str], environment: Callable[[str], str | None], record: NightRecord
) -> tuple[str, ...]:
    """Send to the URLs of each variable; the names of those that did not work."""
    import apprise  # noqa: PLC0415 - takes half a second, and only nights need it

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would name the URLs
    failed = []
    for variable in variables:
        sender = apprise.Apprise()
        urls = (environment(variable) or "").split()
        added = [sender.add(url) for url in urls]
        is_sent = (
            bool(added)
            and all(added)
            and sender.notify(
                title=title_of(record), body=body_of(record), body_format=apprise.NotifyFormat.TEXT
            )
        )
        if not is_sent:
            failed.append(variable)
    return tuple(failed)
