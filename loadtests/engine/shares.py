"""How totals of a plan divide over engines and nodes, without anyone asking anyone.

Every engine computes its own part from (total, residue, modulus) alone and the parts of
all engines add up to the total exactly: `portion` counts the numbers below the total that
lie in the engine's residue class. It refuses nothing; callers raise a part of 0 to 1 and
say so, because an engine without a connection could never send its arrivals.
"""

from __future__ import annotations

from collections.abc import Sequence


def portion(total: int, residue: int, modulus: int) -> int:
    """Members of {0 .. total - 1} that are `residue` modulo `modulus`: 0 <= residue < modulus."""
    return max(0, (total - residue + modulus - 1) // modulus)


def split_by_weight(total: int, weights: Sequence[float], turn: int) -> list[int]:
    """Divide `total` by weight with largest remainders; the parts add up to it exactly.

    Equal remainders are served in an order that starts at `turn`, so that engines which
    all split the same total do not all give the odd one to the same node.
    """
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(value) for value in exact]
    count = len(weights)
    order = sorted(
        range(count), key=lambda index: (parts[index] - exact[index], (index - turn) % count)
    )
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return parts


def connections_per_node(total: int, weights: Sequence[float], turn: int) -> list[int]:
    """Like `split_by_weight`, but no node is left without a connection: each gets at least 1."""
    parts = split_by_weight(total, weights, turn)
    for index, part in enumerate(parts):
        if part == 0:
            richest = max(range(len(parts)), key=parts.__getitem__)
            if parts[richest] > 1:
                parts[richest] -= 1
            parts[index] = 1
    return parts
