"""Why there are no figures: nothing to measure, or a calculation that crashed.

A check that crashes is no verdict and never a lost one: what depends on it is INCONCLUSIVE,
with the crash as its reason, and everything else is judged as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What arithmetic on a damaged archive raises. HarnessError is none: it says what is wrong.
CRASHES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """The reason, for a person."""

    reason: str
    is_crash: bool


def crash_text(error: Exception) -> str:
    """The reason of a verdict whose check crashed."""
    return f"the check crashed: {type(error).__name__}: {error}"


def crashed(error: Exception) -> Unmeasured:
    """No figures, because of this error."""
    return Unmeasured(reason=crash_text(error), is_crash=True)
