"""What an answer to a read says: so many copies of a write, or nothing that can be relied on."""

from __future__ import annotations

import json
from typing import Any, Final

from loadtests.plan.model import AuditRead

_MOST_COPIES: Final = 1_000_000


def copies_in(read: AuditRead, status: int, body: bytes) -> int | str:
    """Copies of the write, 0 where it is absent; a sentence when the answer does not say."""
    if status in read.absent:
        return 0
    if status not in read.present:
        return f"status {status}"
    if read.copies is None:
        return 1
    try:
        return _copies(_at(json.loads(body), read.copies), read.copies)
    except ValueError as error:
        return f"no JSON: {error}"


def _copies(value: Any, pointer: str) -> int | str:
    if value is None:
        return 0
    if isinstance(value, list):
        return len(value)
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    if is_number and str(value).isdigit() and int(value) <= _MOST_COPIES:
        return int(value)
    return f"{pointer} is no list and no number of copies"


def _at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901); None where there is none."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document
