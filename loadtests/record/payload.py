"""Payloads of HdrHistogram logs: base64, zlib and ZigZag LEB128 of buckets and counts, and back.

The PyPI `hdrhistogram` package encodes. Decoding is our own: every claim of the bytes is
checked, a payload that lies is a ValueError, never a count. The counts of many payloads are
decoded together with NumPy, because a log of an hour has a hundred thousand of them: one at a
time costs three times as much.
Source: the V2 encoding of HdrHistogram 2.1.12.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from loadtests.record.histogram import BUCKETS, HIGHEST_US, SIGNIFICANT_DIGITS

_COMPRESSED_COOKIE: Final = 0x1C849304 | 0x10
_ENCODING_COOKIE: Final = 0x1C849303 | 0x10
_OUTER: Final = struct.Struct(">II")  # cookie, length of the compressed part
_INNER: Final = struct.Struct(">IIIIQQd")  # cookie, length, offset, digits, lowest, highest, ratio
_MAX_PAYLOAD_BYTES: Final = _INNER.size + 9 * BUCKETS
_MAX_VARINT_BYTES: Final = 8  # 56 bits: counts up to 2**55; the ninth byte would be 8 bits wide
_CONTINUES: Final = 0x80
SparseCounts = tuple[NDArray[np.int64], NDArray[np.int64]]  # sorted buckets, their counts
SparseRows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # ends before them


class PayloadEncoder:
    """Encodes histograms one after the other with a single HdrHistogram.

    Constructing one costs 200 us and clearing it in Python 2 ms; here its counters are a
    NumPy view, filled and cleared where they were hit (0.1 ms a histogram, most of it zlib).
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)
        self._counts = np.frombuffer(self._histogram.counts, dtype=np.int64)

    def encode(self, buckets: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[str, int]:
        """Base64 V2 payload of sorted buckets and their counts, and the highest value in us."""
        histogram = self._histogram
        histogram.max_value = 0  # stays when there is nothing but overflow
        if buckets.size:
            self._counts[buckets] = counts
            histogram.set_internal_tacking_values(
                int(buckets[0]), int(buckets[-1]), int(counts.sum())
            )
        else:
            histogram.total_count = 0
        payload: str = histogram.encode().decode("ascii")
        self._counts[buckets] = 0
        return payload, int(histogram.max_value)


def decode_payload(payload: bytes) -> SparseCounts:
    """Buckets and counts of a base64 V2 payload; ValueError on any lie in it."""
    _, buckets, counts = decode_counts([inflate_payload(payload)])
    return buckets, counts


def inflate_payload(payload: bytes) -> bytes:
    """The encoded counts in a base64 V2 payload; ValueError when its frame or layout is wrong."""
    try:
        outer = binascii.a2b_base64(payload, strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"payload is not base64: {error}") from error
    if len(outer) < _OUTER.size:
        raise ValueError(f"payload of {len(outer)} bytes")
    cookie, length = _OUTER.unpack_from(outer)
    if cookie != _COMPRESSED_COOKIE or length != len(outer) - _OUTER.size:
        raise ValueError(f"payload cookie {cookie:#x} with length {length} of {len(outer)} bytes")
    inflater = zlib.decompressobj()
    try:
        inner = inflater.decompress(outer[_OUTER.size :], _MAX_PAYLOAD_BYTES)
    except zlib.error as error:
        raise ValueError(f"payload does not inflate: {error}") from error
    if not inflater.eof or len(inner) < _INNER.size:
        raise ValueError(f"payload inflates to {len(inner)} bytes and does not end")
    cookie, length, _, digits, lowest, highest, _ = _INNER.unpack_from(inner)
    if (cookie, length) != (_ENCODING_COOKIE, len(inner) - _INNER.size):
        raise ValueError(f"inner cookie {cookie:#x} with length {length} of {len(inner)} bytes")
    if (digits, lowest, highest) != (SIGNIFICANT_DIGITS, 1, HIGHEST_US):
        raise ValueError(f"layout {lowest}..{highest} with {digits} digits is not ours")
    return inner[_INNER.size :]


def decode_counts(parts: Sequence[bytes]) -> SparseRows:
    """ZigZag LEB128: a positive number is a count, a negative one a run of empty buckets.

    Part i's buckets and counts lie in `ends[i - 1]:ends[i]` of the arrays, those of the first
    from 0 on; ValueError when any part lies, without saying which.
    """
    raw = np.frombuffer(b"".join(parts), dtype=np.uint8)
    part_ends = np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)))
    is_last = raw < _CONTINUES
    if not is_last[part_ends[part_ends > 0] - 1].all():
        raise ValueError("counts end inside a number")
    # Most numbers are one byte long: done as bytes, eight or more in one instruction. The others
    # are patched where their last byte is; a byte before it steps nowhere and counts nothing.
    steps = (is_last * ((raw >> 1) * (raw & 1) + 1)).astype(np.int64)
    is_count = is_last & (raw & 1 == 0) & (raw != 0)
    longer = np.flatnonzero(is_last[1:] & ~is_last[:-1]) + 1
    zigzag = _long_numbers(raw, longer)
    steps[longer] = np.where(zigzag & 1, np.minimum(zigzag >> 1, BUCKETS) + 1, 1)
    is_count[longer] = (zigzag & 1 == 0) & (zigzag != 0)
    reached = np.cumsum(steps)
    before = np.concatenate(([0], reached))[part_ends]  # where each part, and the next, begins
    begins = np.concatenate(([0], before[:-1]))
    if int((before - begins).max(initial=0)) > BUCKETS:
        raise ValueError("counts reach past the last bucket")
    at = np.flatnonzero(is_count)
    ends = np.searchsorted(at, part_ends)
    buckets = reached[at]
    buckets -= np.repeat(begins + 1, np.diff(ends, prepend=0))
    counts = (raw[at] >> 1).astype(np.int64)
    is_kept = is_count[longer]
    counts[np.searchsorted(at, longer[is_kept])] = zigzag[is_kept] >> 1
    return ends, buckets, counts


def _long_numbers(raw: NDArray[np.uint8], lasts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of more than one byte by the place of their last, still in ZigZag form."""
    numbers = raw[lasts].astype(np.int64)
    open_, places = np.arange(lasts.size), lasts
    for length in range(2, _MAX_VARINT_BYTES + 2):
        places = places - 1
        goes_on = (places >= 0) & (raw[places] >= _CONTINUES)
        open_, places = open_[goes_on], places[goes_on]
        if not open_.size:
            return numbers
        if length > _MAX_VARINT_BYTES:
            break
        numbers[open_] = numbers[open_] << 7 | (raw[places] & (_CONTINUES - 1))
    raise ValueError(f"a count of more than {_MAX_VARINT_BYTES} bytes")
