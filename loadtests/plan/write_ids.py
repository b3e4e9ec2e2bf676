"""Numbers and ids of logged writes: from the intended time back to the arrival.

The log of writes has the time at which each was due and its slot. The plan's schedule says
which arrival that was. Two arrivals of one slot due in the same nanosecond cannot be told
apart: their entries are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.model import Plan, Share
from loadtests.plan.schedule import Schedule

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedWrites:
    """Parallel arrays, a number and the index of an entry of the log each; `unmatched` entries."""

    sequences: Integers
    entries: Integers
    unmatched: int


def match_writes(plan: Plan, dues_ns: Integers, slots: Integers) -> MatchedWrites:
    """The arrivals that entries of a log are about."""
    arrivals = Schedule(plan).arrivals(Share(residue=0, modulus=1, from_ns=0), 0, plan.duration_ns)
    space = plan.slots
    row = arrivals.stages * len(space.requests) + arrivals.requests
    own = row * len(space.nodes) + arrivals.nodes
    is_asked = np.isin(own, slots)
    times, own = arrivals.offsets_ns[is_asked], own[is_asked]
    known = np.stack([times, own], axis=1)
    found, first, counts = np.unique(known, axis=0, return_index=True, return_counts=True)
    single = counts == 1
    asked, back, entries = np.unique(
        np.stack([dues_ns, slots], axis=1), axis=0, return_index=True, return_counts=True
    )
    place = {
        (int(t), int(s)): int(i) for (t, s), i in zip(found[single], first[single], strict=True)
    }
    sequences = arrivals.sequences[is_asked]
    pairs = [
        (int(sequences[place[int(t), int(s)]]), int(i))
        for (t, s), i, n in zip(asked, back, entries, strict=True)
        if n == 1 and (int(t), int(s)) in place
    ]
    matched = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return MatchedWrites(
        sequences=matched[:, 0], entries=matched[:, 1], unmatched=len(dues_ns) - len(matched)
    )
