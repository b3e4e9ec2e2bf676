"""Results of estimation: an interval, or the sentence that there is too little data for one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """`[low, high]` covers the true value in `confidence` of all runs; in the value's own unit.

    `windows` is how many windows it rests on and `block_windows` how many of them are taken
    together, because they depend on each other.
    """

    value: float
    low: float
    high: float
    confidence: float
    windows: int
    block_windows: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TooSmall:
    """There is no honest interval: `have` of `what`, `need` are needed."""

    have: int
    need: int
    what: str

    def __str__(self) -> str:
        return f"n too small: {self.have} {self.what}, needs {self.need}"


def seed_of(*words: str) -> int:
    """A seed that is a function of words alone, such as run id and stage."""
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")
