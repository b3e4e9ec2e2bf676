"""A histogram in a baseline's file: every bucket, in some kilobytes of text.

The text is a base64 V2 payload of HdrHistogram, as in the log of an archive, so the public
tools read it too. What the layout cannot hold, the overflow, is a number beside it.
"""

from __future__ import annotations

import msgspec
import numpy as np

from loadtests.record.histogram import BUCKETS, LENGTH, OVERFLOW, Histogram
from loadtests.record.payload import PayloadEncoder, decode_payload


class KeptHistogram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`hdr` is the payload; `overflow` counts samples above one hour."""

    hdr: str
    overflow: int

    def histogram(self) -> Histogram:
        """All counts; ValueError on a payload that lies."""
        counts = np.zeros(LENGTH, dtype=np.int64)
        buckets, found = decode_payload(self.hdr.encode("ascii"))
        counts[buckets] = found
        counts[OVERFLOW] = self.overflow
        return Histogram(counts=counts)


def keep(histogram: Histogram) -> KeptHistogram | None:
    """As it is written; None without a sample."""
    if not histogram.n:
        return None
    buckets = np.flatnonzero(histogram.counts[:BUCKETS])
    hdr, _ = PayloadEncoder().encode(buckets, histogram.counts[buckets])
    return KeptHistogram(hdr=hdr, overflow=histogram.overflow)
