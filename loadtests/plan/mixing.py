"""Pure pseudo-random functions of a sequence number, scalar and vectorised alike.

Whatever the number of shares, arrival k has the same request, node, payload and (under
Poisson) time, because each is a function of (seed, k) and not of a generator's state.
All arithmetic is modulo 2**64 and exact, so every host computes the same.

`mix64` is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64 bits.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

MASK64: Final = 2**64 - 1
GOLDEN64: Final = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: SplitMix64's increment
_MULTIPLY_1: Final = 0xBF58476D1CE4E5B9
_MULTIPLY_2: Final = 0x94D049BB133111EB
_MASK62: Final = 2**62 - 1
# The same for arrays: to make one takes a seventh of what is done with it.
_GOLDEN: Final = np.uint64(GOLDEN64)
_FIRST: Final = np.uint64(_MULTIPLY_1)
_SECOND: Final = np.uint64(_MULTIPLY_2)
_LOW_62: Final = np.uint64(_MASK62)
_BY_27, _BY_29, _BY_30, _BY_31 = map(np.uint64, (27, 29, 30, 31))

Words = NDArray[np.uint64]


def key_of(*parts: str | int) -> int:
    """A 64-bit key of named parts: equal parts give equal keys on every host and version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def mix64(value: int) -> int:
    """Bijective scramble of one 64-bit number."""
    value = (value + GOLDEN64) & MASK64
    value = ((value ^ (value >> 30)) * _MULTIPLY_1) & MASK64
    value = ((value ^ (value >> 27)) * _MULTIPLY_2) & MASK64
    return value ^ (value >> 31)


def words_of(sequences: NDArray[np.int64]) -> Words:
    """Sequence numbers (>= 0) as words; mostly a view, nothing is copied."""
    return sequences.astype(np.int64, copy=False).view(np.uint64)


def mix64_many(values: Words) -> Words:
    """`mix64` of each number; shape kept."""
    # uint64 arrays wrap modulo 2**64 silently, which is what is meant here.
    mixed = values + _GOLDEN
    mixed ^= mixed >> _BY_30
    mixed *= _FIRST
    mixed ^= mixed >> _BY_27
    mixed *= _SECOND
    mixed ^= mixed >> _BY_31
    return mixed


def bijection62(value: int, key: int) -> int:
    """Scramble 62 bits: odd multiples, additions and shifts to the right are bijections."""
    value = (value * GOLDEN64 + key) & _MASK62
    value ^= value >> 31
    value = (value * _MULTIPLY_1) & _MASK62
    return value ^ (value >> 29)


def bijection62_many(values: Words, keys: Words) -> Words:
    """`bijection62` of each number with each key, as they broadcast."""
    values = values * _GOLDEN + keys
    values &= _LOW_62
    values ^= values >> _BY_31
    values *= _FIRST
    values &= _LOW_62
    values ^= values >> _BY_29
    return values


def uniform_many(key: int, indices: Words) -> NDArray[np.float64]:
    """Floats in [0, 1) of a keyed stream, one per index; 53 random bits each."""
    words = mix64_many(mix64_many(indices) ^ np.uint64(key))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def cumulative_words(weights: tuple[float, ...]) -> Words:
    """Upper edges, scaled to 2**64, of all but the last weight: `searchsorted` then chooses."""
    total = sum(weights)
    edges = []
    reached = 0.0
    for weight in weights[:-1]:
        reached += weight
        edges.append(min(MASK64, int(reached / total * 2.0**64)))
    return np.asarray(edges, dtype=np.uint64)
