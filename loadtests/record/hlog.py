"""HdrHistogram logs (format 1.2, V2 payloads): the histograms of an archive as text.

One line is `Tag=<tag>,<start s>,<length s>,<max ms>,<payload>`; values inside are
microseconds. The public HdrHistogram tools read the payloads, which `payload.py` encodes and
decodes. What the layout cannot hold, the overflow counter, is a comment line before its
interval: tools skip it, this reader does not.

A tag is names joined by "/", each percent-encoded (RFC 3986 unreserved characters stay),
so that no name can hold the comma, blank or line end that would break a line.
Source: HistogramLogWriter of HdrHistogram 2.1.12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from loadtests.record.payload import PayloadEncoder, SparseCounts, decode_counts, inflate_payload

_TAG: Final = b"Tag="
_US_PER_MS: Final = 1000
_BATCH_LINES: Final = 64  # decoded together: their arrays stay within a core's cache
_HEAD: Final = re.compile(rb"Tag=([^,\s]*),(\d+)\.\d{3},(\d+)\.\d{3},\d+\.\d{3},")
_OVERFLOW: Final = re.compile(rb"#\[Overflow: (\d+) samples above 3600 s in the next interval\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalBatch:
    """Some lines of a log decoded together; entry i of the arrays is `ends[i - 1]:ends[i]`.

    `tags` are encoded as in the file.
    """

    tags: tuple[bytes, ...]
    start_s: tuple[int, ...]
    length_s: tuple[int, ...]
    overflow: tuple[int, ...]
    ends: NDArray[np.int64]
    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tags)

    def counts_of(self, row: int) -> SparseCounts:
        """Buckets and counts of one line, without its overflow."""
        first = int(self.ends[row - 1]) if row else 0
        last = int(self.ends[row])
        return self.buckets[first:last], self.counts[first:last]

    def interval(self, row: int) -> Interval:
        """One line with its names; ValueError on a tag that `encode_tag` did not make."""
        buckets, counts = self.counts_of(row)
        return Interval(
            names=decode_tag(self.tags[row].decode("ascii")),
            start_s=self.start_s[row],
            length_s=self.length_s[row],
            buckets=buckets,
            counts=counts,
            overflow=self.overflow[row],
        )


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
    """Encodes intervals one after the other."""

    def __init__(self) -> None:
        self._payloads = PayloadEncoder()

    def encode(self, interval: Interval) -> bytes:
        """Lines of one interval, newline at the end."""
        payload, max_us = self._payloads.encode(interval.buckets, interval.counts)
        line = (
            f"Tag={encode_tag(interval.names)},{interval.start_s}.000,{interval.length_s}.000,"
            f"{max_us / _US_PER_MS:.3f},{payload}\n"
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


def parse_log(lines: Iterable[bytes]) -> Iterator[Interval]:
    """Intervals of a log that this module wrote; ValueError naming the line on any other."""
    for batch in read_batches(lines, lambda _: True):
        for row in range(len(batch)):
            yield batch.interval(row)


def read_batches(
    lines: Iterable[bytes], is_wanted: Callable[[bytes], bool]
) -> Iterator[IntervalBatch]:
    """Intervals of a log of any length whose tag, still encoded, is wanted, in the log's order.

    Of the others nothing but the tag is looked at. ValueError naming the line on what this
    module did not write.
    """
    heads: list[_Head] = []
    overflow = 0
    for number, line in enumerate(lines, start=1):
        if not line.startswith(_TAG):
            overflow = _overflow_before(line, number, overflow)
            continue
        if is_wanted(line[len(_TAG) : line.find(b",")]):
            heads.append(_head(line, number, overflow))
            if len(heads) == _BATCH_LINES:
                yield _batch(heads)
                heads = []
        overflow = 0
    if heads:
        yield _batch(heads)


def _overflow_before(line: bytes, number: int, overflow: int) -> int:
    """The overflow of the next interval after a line that is none."""
    text = line.rstrip(b"\n")
    if text and not text.startswith((b"#", b'"')):
        raise _no_interval(text, number)
    found = _OVERFLOW.fullmatch(text)
    return int(found.group(1)) if found else overflow


def _no_interval(text: bytes, number: int) -> ValueError:
    return ValueError(f"line {number} is not an interval: {text[:80]!r}")


class _Head(NamedTuple):
    """A line whose counts are not decoded yet."""

    line: int
    tag: bytes
    start_s: int
    length_s: int
    overflow: int
    counts: bytes


def _head(line: bytes, number: int, overflow: int) -> _Head:
    text = line.rstrip(b"\n")
    found = _HEAD.match(text)
    if found is None:
        raise _no_interval(text, number)
    tag, start_s, length_s = found.groups()
    try:
        counts = inflate_payload(text[found.end() :])
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    return _Head(number, tag, int(start_s), int(length_s), overflow, counts)


def _batch(heads: list[_Head]) -> IntervalBatch:
    try:
        ends, buckets, counts = decode_counts([head.counts for head in heads])
    except ValueError:
        _name_the_liar(heads)
        raise
    return IntervalBatch(
        tags=tuple(head.tag for head in heads),
        start_s=tuple(head.start_s for head in heads),
        length_s=tuple(head.length_s for head in heads),
        overflow=tuple(head.overflow for head in heads),
        ends=ends,
        buckets=buckets,
        counts=counts,
    )


def _name_the_liar(heads: list[_Head]) -> None:
    """Decode one line after the other: a batch does not know which of them lies."""
    for head in heads:
        try:
            decode_counts([head.counts])
        except ValueError as error:
            raise ValueError(f"line {head.line}: {error}") from error
