"""HdrHistogram logs: readable by the public package, exact, and refusing every lie."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.record.histogram import BUCKETS, HIGHEST_US
from loadtests.record.hlog import (
    Interval,
    IntervalEncoder,
    decode_tag,
    encode_tag,
    log_header,
    parse_log,
    read_batches,
)
from loadtests.record.payload import decode_payload

ENCODER = IntervalEncoder()
sparse = st.dictionaries(
    st.integers(0, BUCKETS - 1), st.integers(1, 2**40), min_size=0, max_size=40
)
names = st.lists(st.text(max_size=12), min_size=1, max_size=5).map(tuple)


def interval(
    counts: dict[int, int], *, overflow: int = 0, tag: tuple[str, ...] = ("a",)
) -> Interval:
    """One interval of bucket counts."""
    buckets = sorted(counts)
    return Interval(
        names=tag,
        start_s=1_790_000_000,
        length_s=1,
        buckets=np.array(buckets, dtype=np.int64),
        counts=np.array([counts[bucket] for bucket in buckets], dtype=np.int64),
        overflow=overflow,
    )


def same(one: Interval, other: Interval) -> bool:
    """Equal in every field."""
    return (
        (one.names, one.start_s, one.length_s, one.overflow)
        == (other.names, other.start_s, other.length_s, other.overflow)
        and np.array_equal(one.buckets, other.buckets)
        and np.array_equal(one.counts, other.counts)
    )


@given(st.lists(st.tuples(sparse, st.integers(0, 3), names), max_size=4))
def test_a_log_reads_back_exactly(parts: list[tuple[dict[int, int], int, tuple[str, ...]]]) -> None:
    """Names, times, counts and overflow of every interval come back, also of empty ones."""
    intervals = [interval(counts, overflow=over, tag=tag) for counts, over, tag in parts]
    log = log_header(1_790_000_000) + b"".join(map(ENCODER.encode, intervals))
    read = list(parse_log(log.splitlines(keepends=True)))
    assert len(read) == len(intervals)
    assert all(map(same, intervals, read))


@settings(max_examples=50)
@given(sparse)
def test_the_public_decoder_reads_the_same_counts(counts: dict[int, int]) -> None:
    """PyPI's hdrhistogram decodes a payload to the counts that went in, bucket by bucket."""
    payload = ENCODER.encode(interval(counts)).decode("ascii").split(",")[-1]
    decoded = HdrHistogram.decode(payload)
    assert decoded.get_total_count() == sum(counts.values())
    for bucket, count in counts.items():
        assert decoded.get_count_at_index(bucket) == count


@settings(max_examples=50)
@given(st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=50))
def test_a_payload_of_the_public_encoder_is_read(values_us: list[int]) -> None:
    """What hdrhistogram recorded and encoded itself decodes to the same sparse counts."""
    reference = HdrHistogram(1, HIGHEST_US, 3)
    for value in values_us:
        reference.record_value(value)
    buckets, counts = decode_payload(reference.encode())
    hit = {reference.get_counts_array_index(value) for value in values_us}
    assert set(buckets.tolist()) == hit
    assert [reference.get_count_at_index(bucket) for bucket in buckets] == counts.tolist()


def test_the_public_log_reader_reads_tags_times_and_counts(tmp_path: Path) -> None:
    """HistogramLogReader walks the whole log: tags, start and end, maximum and total."""
    hostile = ("stage one", "GET /a,b\n#x", "n/1", "response")
    written = [
        interval({3: 5, 2000: 7}, tag=hostile),
        interval({}, overflow=2, tag=("only", "overflow")),
        interval({BUCKETS - 1: 1}, tag=("highest",)),
    ]
    path = tmp_path / "latency.hlog"
    path.write_bytes(log_header(1_790_000_000) + b"".join(map(ENCODER.encode, written)))
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_US, 3))
    for one in written:
        read = reader.get_next_interval_histogram()
        assert read is not None
        assert decode_tag(read.get_tag()) == one.names
        assert read.get_start_time_stamp() == 1_790_000_000_000
        assert read.get_end_time_stamp() == 1_790_000_001_000
        assert read.get_total_count() == int(one.counts.sum())
    assert reader.get_next_interval_histogram() is None
    reader.input_file.close()


@given(names)
def test_a_tag_holds_no_character_that_breaks_a_line(tag: tuple[str, ...]) -> None:
    """Whatever names are, the tag is unreserved ASCII, percent and slash, and is reversible."""
    encoded = encode_tag(tag)
    assert all(c.isascii() and (c.isalnum() or c in "-._~%/") for c in encoded)
    assert decode_tag(encoded) == tag


def payload_of(body: bytes, **changes: int) -> bytes:
    """A V2 payload around encoded counts, with fields of its headers changed."""
    inner = struct.pack(
        ">IIIIQQd",
        changes.get("inner_cookie", 0x1C849313),
        changes.get("inner_length", len(body)),
        0,
        changes.get("digits", 3),
        changes.get("lowest", 1),
        changes.get("highest", HIGHEST_US),
        1.0,
    )
    packed = zlib.compress(inner + body)
    outer = struct.pack(
        ">II", changes.get("cookie", 0x1C849314), changes.get("length", len(packed))
    )
    return base64.b64encode(outer + packed)


@pytest.mark.parametrize(
    "payload",
    [
        b"not base64!",
        b"AAAA",
        payload_of(b"\x02", cookie=0x1C849304 ^ 1),
        payload_of(b"\x02", length=5),
        payload_of(b"\x02", inner_cookie=0x1C849301),
        payload_of(b"\x02", inner_length=2),
        payload_of(b"\x02", digits=2),
        payload_of(b"\x02", lowest=1000),
        payload_of(b"\x02", highest=HIGHEST_US + 1),
        payload_of(b"\x82"),  # ends inside a number
        payload_of(b"\xff\xff\xff\xff\xff\xff\xff\xff\x01"),  # nine bytes
        payload_of(b"\xff\xff\xff\xff\xff\xff\xff\x7f\x02"),  # a run of 2**55 empty buckets
        payload_of(b"\x02" * (BUCKETS + 1)),
        payload_of(b"\x00" * (9 * BUCKETS + 1)),  # inflates past every honest payload
        base64.b64encode(struct.pack(">II", 0x1C849314, 4) + b"junk"),
    ],
)  # fmt: skip
def test_a_lying_payload_is_refused(payload: bytes) -> None:
    """Cookies, lengths, layout and counts that do not hold are errors, never counts."""
    with pytest.raises(ValueError, match=r"payload|cookie|layout|count"):
        decode_payload(payload)


@given(st.binary(max_size=60))
def test_arbitrary_counts_never_crash_the_decoder(body: bytes) -> None:
    """Any bytes decode to sorted positive counts inside the layout, or raise ValueError."""
    try:
        buckets, counts = decode_payload(payload_of(body))
    except ValueError:
        return
    assert np.all(counts > 0)
    assert np.all(np.diff(buckets) > 0)
    assert not buckets.size or 0 <= buckets[0] <= buckets[-1] < BUCKETS


def test_a_broken_line_is_named() -> None:
    """A line that is no interval stops the reading and says which it is."""
    good = log_header(1) + ENCODER.encode(interval({1: 1}))
    for broken in (b"Tag=a,1.000,1.000,oops", b"Tag=a,1.000,1.000,0.001,AAAA"):
        with pytest.raises(ValueError, match="line 7"):
            list(parse_log([*good.splitlines(), broken]))


def test_a_lie_among_many_lines_is_named() -> None:
    """Lines are decoded in batches; a count that lies is still said to be in its own line."""
    good = ENCODER.encode(interval({1: 1, 5: 2})).rstrip(b"\n")
    head = good.rpartition(b",")[0]
    lines = [good] * 700 + [head + b"," + payload_of(b"\x82")] + [good] * 700
    with pytest.raises(ValueError, match="line 701: counts end inside a number"):
        list(parse_log(lines))


@given(st.lists(st.tuples(sparse, names), max_size=5), st.integers(0, 4))
def test_only_wanted_tags_are_decoded(
    parts: list[tuple[dict[int, int], tuple[str, ...]]], which: int
) -> None:
    """A batch holds the wanted lines in their order, however the others look inside."""
    intervals = [interval(counts, tag=tag) for counts, tag in parts]
    wanted = parts[which][1] if which < len(parts) else ("absent",)
    log = b"".join(map(ENCODER.encode, intervals)).splitlines()
    lines = [
        line if one.names == wanted else line.rpartition(b",")[0] + b",lies"
        for one, line in zip(intervals, log, strict=True)
    ]
    batches = list(read_batches(lines, lambda tag: tag == encode_tag(wanted).encode()))
    read = [batch.interval(row) for batch in batches for row in range(len(batch))]
    expected = [one for one in intervals if one.names == wanted]
    assert len(read) == len(expected)
    assert all(map(same, expected, read))
