"""HdrHistogram logs (format 1.2, V2 payloads): the histograms of an archive as text.

One line is `Tag=<tag>,<start s>,<length s>,<max ms>,<payload>`; values inside are
microseconds. Payloads are encoded by the PyPI `hdrhistogram` package, so the public
HdrHistogram tools read them; they are decoded here with NumPy, straight to buckets and with
every claim of the bytes checked. What the layout cannot hold, the overflow counter, is a
comment line before its interval: tools skip it, this reader does not.

A tag is names joined by "/", each percent-encoded (RFC 3986 unreserved characters stay),
so that no name can hold the comma, blank or line end that would break a line.
Sources: HistogramLogWriter and the V2 encoding of HdrHistogram 2.1.12 (ZigZag LEB128).
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from loadtests.record.histogram import BUCKETS, HIGHEST_US, SIGNIFICANT_DIGITS

_US_PER_MS: Final = 1000
_COMPRESSED_COOKIE: Final = 0x1C849304 | 0x10
_ENCODING_COOKIE: Final = 0x1C849303 | 0x10
_OUTER: Final = struct.Struct(">II")  # cookie, length of the compressed part
_INNER: Final = struct.Struct(">IIIIQQd")  # cookie, length, offset, digits, lowest, highest, ratio
_MAX_PAYLOAD_BYTES: Final = _INNER.size + 9 * BUCKETS
_MAX_VARINT_BYTES: Final = 8  # 56 bits: counts up to 2**55; the ninth byte would be 8 bits wide
_CONTINUES: Final = 0x80
_LINE: Final = re.compile(r"Tag=([^,\s]*),(\d+)\.\d{3},(\d+)\.\d{3},\d+\.\d{3},([A-Za-z0-9+/=]+)")
_OVERFLOW: Final = re.compile(r"#\[Overflow: (\d+) samples above 3600 s in the next interval\]")

SparseCounts = tuple[NDArray[np.int64], NDArray[np.int64]]  # sorted buckets, their counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One histogram of a log: `buckets` sorted and unique, `counts` positive, without overflow."""

    names: tuple[str, ...]
    start_s: int
    length_s: int
    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]
    overflow: int


def encode_tag(names: tuple[str, ...]) -> str:
    """Names as one tag without comma, blank or line end."""
    return "/".join(quote(name, safe="") for name in names)


def decode_tag(tag: str) -> tuple[str, ...]:
    """Inverse of `encode_tag`; ValueError (UnicodeDecodeError) on a tag that it did not make."""
    return tuple(unquote(part, errors="strict") for part in tag.split("/"))


class IntervalEncoder:
    """Encodes intervals one after the other with a single HdrHistogram.

    Constructing one costs 200 us and clearing it in Python 2 ms; here its counters are a
    NumPy view, filled and cleared where they were hit (0.1 ms an interval, most of it zlib).
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)
        self._counts = np.frombuffer(self._histogram.counts, dtype=np.int64)

    def encode(self, interval: Interval) -> bytes:
        """Lines of one interval, newline at the end."""
        histogram, buckets = self._histogram, interval.buckets
        histogram.max_value = 0  # stays when there is nothing but overflow
        if buckets.size:
            self._counts[buckets] = interval.counts
            histogram.set_internal_tacking_values(
                int(buckets[0]), int(buckets[-1]), int(interval.counts.sum())
            )
        else:
            histogram.total_count = 0
        payload = histogram.encode().decode("ascii")
        self._counts[buckets] = 0
        line = (
            f"Tag={encode_tag(interval.names)},{interval.start_s}.000,{interval.length_s}.000,"
            f"{histogram.max_value / _US_PER_MS:.3f},{payload}\n"
        )
        if interval.overflow:
            text = f"{interval.overflow} samples above 3600 s in the next interval"
            line = f"#[Overflow: {text}]\n{line}"
        return line.encode("ascii")


def log_header(start_s: int) -> bytes:
    """First lines of a log whose intervals carry absolute times (unix seconds)."""
    start = datetime.fromtimestamp(start_s, UTC).isoformat()
    return (
        "#[Histogram log format version 1.2]\n"
        "#[Values are microseconds, Interval_Max is milliseconds; tags are percent-encoded]\n"
        f"#[StartTime: {start_s}.000 (seconds since epoch), {start}]\n"
        "#[BaseTime: 0.000 (seconds since epoch)]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    ).encode("ascii")


def parse_log(text: str) -> Iterator[Interval]:
    """Intervals of a log that this module wrote; ValueError naming the line on any other."""
    overflow = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if found := _OVERFLOW.fullmatch(line):
            overflow = int(found.group(1))
            continue
        if line.startswith(("#", '"')) or not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not an interval: {line[:80]!r}")
        tag, start_s, length_s, payload = found.groups()
        try:
            buckets, counts = decode_payload(payload)
            names = decode_tag(tag)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        yield Interval(
            names=names, start_s=int(start_s), length_s=int(length_s),
            buckets=buckets, counts=counts, overflow=overflow,
        )  # fmt: skip
        overflow = 0


def decode_payload(payload: str) -> SparseCounts:
    """Buckets and counts of a base64 V2 payload; ValueError on any lie in it."""
    try:
        outer = base64.b64decode(payload, validate=True)
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
    return _decode_counts(np.frombuffer(inner, dtype=np.uint8, offset=_INNER.size))


def _decode_counts(raw: NDArray[np.uint8]) -> SparseCounts:
    """ZigZag LEB128: a positive number is a count, a negative one a run of empty buckets."""
    if not raw.size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    ends = np.flatnonzero(raw < _CONTINUES)
    if not ends.size or ends[-1] != raw.size - 1:
        raise ValueError("counts end inside a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if int(lengths.max()) > _MAX_VARINT_BYTES:
        raise ValueError(f"a count of {int(lengths.max())} bytes")
    shifts = 7 * (np.arange(raw.size) - np.repeat(starts, lengths))
    zigzag = np.add.reduceat((raw & 0x7F).astype(np.int64) << shifts, starts)
    numbers = (zigzag >> 1) ^ -(zigzag & 1)
    steps = np.where(numbers < 0, -numbers, 1)
    # A run cannot be longer than the layout; checked before summing, so nothing wraps round.
    if int(steps.max()) > BUCKETS or int(steps.sum()) > BUCKETS:
        raise ValueError("counts reach past the last bucket")
    is_count = numbers > 0
    return (np.cumsum(steps) - steps)[is_count], numbers[is_count]
