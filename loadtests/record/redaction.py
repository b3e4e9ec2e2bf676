"""Keeps secrets out of an archive: the last net, not the first.

Plans keep `${env:NAME}` as a placeholder, so a secret has no business here at all; but a
command line, an error text of a server or a literal in a scenario can carry one. What
looks like a credential is replaced, and so is every value that a placeholder of the
scenario has in this process's environment. Placeholders themselves stay readable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "[redacted]"
SHORTEST_SECRET: Final = 4  # a shorter value is no secret, and would blot out ordinary text
LONGEST_TEXT: Final = 2000  # characters kept of a message from outside

_VALUE: Final = r"""(?!\$\{)[^\s"'`,;&]+"""
_PATTERNS: Final = (
    # Authorization headers and the like, as HTTP, TOML, JSON or command-line text:
    # the scheme word (Bearer, Basic) stays (possessive, so it is never taken for the value),
    # what follows goes.
    re.compile(
        r"""(?ix)
        (?P<keep> ["']? (?: proxy- )? authorization ["']? \s* [:=,] \s* ["']?
          (?: (?: bearer | basic | digest | token | negotiate | apikey ) \s+ )?+ )"""
        + _VALUE
    ),
    re.compile(r"(?i)(?P<keep>\b(?:bearer|basic)\s+)(?!\$\{)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"""(?ix)
        (?P<keep> [\w-]* (?: token | passwo?r?d | secret | api[_-]?key | credential | cookie )
          ["']? \s* [:=] \s* ["']? )"""
        + _VALUE
    ),
    re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)"),  # user:password@host
)
_PLACEHOLDER: Final = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
# C0 and C1 controls (tab and newline excepted) and bidirectional overrides: active content
# for a terminal or a reader's eye.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def secrets_of(scenario_text: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values that the scenario's `${env:NAME}` have here, longest first."""
    names = set(_PLACEHOLDER.findall(scenario_text))
    values = {environment[name] for name in names if name in environment}
    return tuple(sorted((v for v in values if len(v) >= SHORTEST_SECRET), key=len, reverse=True))


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Replace known secrets and what looks like a credential."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<keep>{REDACTED}", text)
    return text


def clean_message(text: str, secrets: tuple[str, ...]) -> str:
    """Make text from outside fit to keep: no secret, no control character, bounded length."""
    cleaned = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", redact(text, secrets))
    return (
        cleaned
        if len(cleaned) <= LONGEST_TEXT
        else cleaned[:LONGEST_TEXT] + "\N{HORIZONTAL ELLIPSIS}"
    )


def redact_command(command: tuple[str, ...], secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Redact words of a command line, also where option and value are two words."""
    cleaned: list[str] = []
    for word in command:
        follows = cleaned[-1].lower() if cleaned else ""
        is_value = follows.startswith("-") and re.search(
            r"(token|passwo?r?d|secret|key|authorization)$", follows
        )
        cleaned.append(REDACTED if is_value and "${" not in word else redact(word, secrets))
    return tuple(cleaned)
