"""What values are in: a leaf, which tables and the command line use without loading pandas."""

from __future__ import annotations

from enum import Enum


class Unit(Enum):
    """What a value is in."""

    NANOSECONDS = "ns"
    RATIO = "ratio"
    PER_SECOND = "per_s"  # requests
    BYTES = "bytes"
    COUNT = "count"
    COUNT_PER_SECOND = "count_per_s"  # of whatever a counter of the target counts
