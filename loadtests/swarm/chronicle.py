"""Events of a run, bounded: the first of a kind of noise are told, the rest is counted.

A hostile or broken peer must not be able to fill the archive; joins, losses, takeovers
and aborts are never left out.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from loadtests.record.event import Event, EventValue

NOISE_TOLD: Final = 10  # of each kind of noise
_TEXT: Final = 1000


class Chronicle:
    """Makes events; `count` is how many were made."""

    __slots__ = ("_noise", "_unix_minus_monotonic_ns", "count")

    def __init__(self, unix_minus_monotonic_ns: int) -> None:
        self._unix_minus_monotonic_ns = unix_minus_monotonic_ns
        self._noise: Counter[str] = Counter()
        self.count = 0

    def tell(self, kind: str, who: str, text: str, now_ns: int, **fields: EventValue) -> Event:
        """An event that is always told."""
        self.count += 1
        return Event(
            at_unix_ns=now_ns + self._unix_minus_monotonic_ns,
            kind=kind,
            who=who[:_TEXT],
            text=text[:_TEXT],
            fields=fields,
        )

    def noise(self, kind: str, who: str, text: str, now_ns: int) -> Event | None:
        """An event that is told the first times and then only counted."""
        self._noise[kind] += 1
        if self._noise[kind] > NOISE_TOLD:
            return None
        return self.tell(kind, who, text, now_ns, count=self._noise[kind])

    def warnings(self) -> tuple[str, ...]:
        """Counts of noise, as sentences."""
        return tuple(f"{kind}: {count} times" for kind, count in sorted(self._noise.items()))
