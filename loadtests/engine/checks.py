"""Checks on a response body: the first one that does not hold, in words.

Pure. A check that cannot be evaluated (a body that is no JSON, a pointer to nothing) has
failed: it is never a pass. Values are compared as JSON does: 1 equals 1.0, but true does
not equal 1 and "1" does not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonpointer
import msgspec

from loadtests.plan.model import BodyContains, Check, JsonEquals, MaxBytes

_LONGEST_SEEN = 80  # characters of a seen value that a message repeats


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SEEN else text[:_LONGEST_SEEN] + "..."


def _is_equal(seen: Any, expected: Any) -> bool:
    if isinstance(seen, bool) or isinstance(expected, bool):
        return seen is expected
    return bool(seen == expected)


def _failed_json(check: JsonEquals, body: bytes) -> str | None:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"json {check.pointer}: the body is not JSON"
    try:
        seen = jsonpointer.resolve_pointer(document, check.pointer)
    except (jsonpointer.JsonPointerException, TypeError, ValueError):
        return f"json {check.pointer}: nothing there"
    if _is_equal(seen, check.value):
        return None
    return f"json {check.pointer}: saw {_shown(seen)}, expected {_shown(check.value)}"


def failed_check(checks: Sequence[Check], body: bytes) -> str | None:
    """Describe the first check that fails on `body`; None when all hold."""
    for check in checks:
        match check:
            case BodyContains(text=text):
                if text.encode() not in body:
                    return f"body does not contain {_shown(text)}"
            case MaxBytes(size_bytes=size_bytes):
                if len(body) > size_bytes:
                    return f"body has {len(body)} bytes, at most {size_bytes}"
            case JsonEquals():
                if failure := _failed_json(check, body):
                    return failure
    return None
