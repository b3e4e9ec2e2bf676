"""The number of each part of a second: 0 for the first, 1 for the next, and so on.

Seconds come in order and in one part, but for a few. So only those few are remembered, and
the seconds that were passed over: one entry for every second, as long as a run lasts, is
what a master must not keep.
"""

from __future__ import annotations


class PartNumbers:
    """Hands out numbers; labels are unix seconds, in any order."""

    __slots__ = ("_first_s", "_gaps", "_newest_s", "_next")

    def __init__(self) -> None:
        self._first_s: int | None = None
        self._newest_s = 0
        self._gaps: list[range] = []  # passed over between the two
        self._next: dict[int, int] = {}  # of labels that came again, or late

    def take(self, label_s: int) -> int:
        """Number the next part of a second."""
        if self._first_s is None:
            self._first_s = self._newest_s = label_s
            return 0
        if label_s > self._newest_s:
            if label_s > self._newest_s + 1:
                self._gaps.append(range(self._newest_s + 1, label_s))
            self._newest_s = label_s
            return 0
        number = self._next.get(label_s)
        if number is None:
            is_new = label_s < self._first_s or any(label_s in gap for gap in self._gaps)
            number = 0 if is_new else 1
        self._next[label_s] = number + 1
        return number
