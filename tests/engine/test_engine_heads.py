"""HPACK: what is remembered is what the library would decode; what is written, it reads."""

from __future__ import annotations

from unittest import mock

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.engine.request_heads import Field, RequestHeads, integer, plain_block
from loadtests.engine.response_heads import (
    BLOCK_LIMIT_BYTES,
    BlockError,
    Head,
    ResponseHeads,
    read_head,
)

_NAMES = (b":status", b"content-type", b"grpc-status", b"grpc-message", b"date", b"x-id", b"server")
_VALUES = (b"200", b"404", b"application/grpc", b"0", b"14", b"a", b"b" * 60, b"c" * 500, b"")
FIELD = st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES))
# A step of a server: send a head with or without indexing, or resize the table before it.
STEP = st.tuples(
    st.lists(st.tuples(FIELD, st.sampled_from(("index", "insert", "plain", "never"))), max_size=6),
    st.one_of(st.none(), st.sampled_from((0, 60, 150, 1000, 4096))),
    st.integers(1, 4),
)


def _inserting(name: bytes, value: bytes) -> bytes:
    """A literal with incremental indexing and a name of its own (RFC 7541, 6.2.1)."""
    return b"\x40" + b"".join(integer(len(text), 7, 0) + text for text in (name, value))


class Server:
    """Writes blocks as servers do: indexed, literal, with table size updates."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def block(self, fields: list[tuple[Field, str]], size: int | None) -> bytes:
        """Encode one head."""
        if size is not None:
            self._encoder.header_table_size = size
        parts = [self._encoder.encode([])]  # the size updates
        for (name, value), how in fields:
            if how == "plain":
                parts.append(plain_block([(name, value)]))
            elif how == "insert":  # as nginx: each time anew, whatever the table holds
                parts.append(_inserting(name, value))
                self._encoder.header_table.add(name, value)
            else:
                parts.append(self._encoder.encode([(name, value, how == "never")]))
        return b"".join(parts)


def _seen(head: Head) -> tuple[object, ...]:
    return (
        head.status,
        head.code,
        head.message,
        head.is_grpc,
        head.encoding,
        head.length,
        head.fault,
    )


@settings(max_examples=600)
@given(steps=st.lists(STEP, min_size=1, max_size=25))
def test_the_memo_never_differs_from_the_library(
    steps: list[tuple[list[tuple[Field, str]], int | None, int]],
) -> None:
    """Any sequence of heads and table resizes means what it means without a memo."""
    server, remembered, library = Server(), ResponseHeads(), Decoder()
    for fields, size, times in steps:
        for again in range(times):
            block = server.block(fields, size if again == 0 else None)
            expected = read_head(library.decode(block, raw=True), block)
            found = remembered.find(block)
            if found is not None:
                assert _seen(found) == _seen(expected)
            assert _seen(remembered.decode(block)) == _seen(expected)


@settings(max_examples=300)
@given(
    first=st.lists(FIELD, min_size=1, max_size=5),
    second=st.lists(FIELD, min_size=1, max_size=5),
    data=st.data(),
)
def test_the_same_bytes_mean_something_new_after_the_table_changed(
    first: list[Field], second: list[Field], data: st.DataObject
) -> None:
    """An index that pointed to one field points to another after an insertion."""
    remembered, library = ResponseHeads(), Decoder()
    block_of = bytes([0x80 | data.draw(st.integers(62, 66))])
    for fields in (first, second):
        inserted = Encoder().encode(fields)
        for block in (inserted, block_of, block_of):
            try:
                expected = read_head(library.decode(block, raw=True), block)
            except Exception:  # noqa: BLE001 - whatever the library refuses, we must refuse
                with pytest.raises(BlockError):
                    remembered.decode(block)
                return
            assert _seen(remembered.decode(block)) == _seen(expected)


def test_a_block_that_uses_the_table_is_found_only_while_it_stays() -> None:
    """Remembered after decoding, forgotten with the next insertion or resize."""
    heads, encoder = ResponseHeads(), Encoder()
    plain = plain_block([(b":status", b"200"), (b"x", b"y")])
    for change in (_inserting(b"x-new", b"value"), b"\x20"):  # the other: a resize to 0
        heads.decode(encoder.encode([(b"x", b"y")]))
        heads.decode(plain)
        indexed = b"\xbe"  # what was inserted last
        heads.decode(indexed)
        assert heads.find(indexed) is not None
        heads.decode(change)
        assert heads.find(indexed) is None
        assert heads.find(plain) is not None  # it needs no table
        encoder = Encoder()


def test_a_block_that_inserts_the_same_again_is_decoded_once() -> None:
    """A server such as nginx inserts its whole head with every answer, and never refers to it."""
    heads, library = ResponseHeads(), Decoder()
    head = b"\x88" + _inserting(b"server", b"nginx") + _inserting(b"x", b"y" * 900)
    tail = plain_block([(b"grpc-status", b"0")])
    with mock.patch.object(Decoder, "decode", autospec=True, side_effect=Decoder.decode) as spy:
        for _ in range(1000):
            assert heads.decode(head).status == 200
            assert heads.decode(tail).code == 0
        assert spy.call_count == 2
    for _ in range(1000):
        library.decode(head)
    for index in range(4):  # as many as the table holds, in the library's order
        block = bytes([0xBE + index])
        expected = read_head(library.decode(block, raw=True), block)
        assert _seen(heads.decode(block)) == _seen(expected)
    assert list(heads._table.dynamic_entries) == list(library.header_table.dynamic_entries)


def test_the_memo_is_bounded() -> None:
    """A server with an id in each head is decoded each time, in bounded memory."""
    heads = ResponseHeads()
    for number in range(5_000):
        heads.decode(plain_block([(b":status", b"200"), (b"x-id", b"%d" % number)]))
    assert len(heads) <= 1024


@pytest.mark.parametrize(
    "block",
    [
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",  # an index beyond any table
        b"\x80",  # index 0
        b"\xfe",  # an index that the empty table does not have
        b"\x00\x05ab",  # cut off
        b"\x3f\xe1\xff\x03",  # a table of 64 KiB, which we did not offer
        b"\x88\x20",  # a resize behind a field
        b"\x00" * (BLOCK_LIMIT_BYTES + 1),
    ],
)
def test_a_block_that_cannot_be_decoded_is_an_error(block: bytes) -> None:
    """Whatever is wrong with a block, it is one kind of error."""
    with pytest.raises(BlockError):
        ResponseHeads().decode(block)


def test_a_head_list_that_grows_out_of_few_bytes_is_refused() -> None:
    """A bomb: one inserted field of 4,000 bytes, indexed 100 times."""
    heads = ResponseHeads()
    with pytest.raises(BlockError):
        heads.decode(Encoder().encode([(b"x", b"y" * 4000)], huffman=False) + b"\xbe" * 100)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ([(b":status", b"200")], None),
        ([(b":status", b"200"), (b":status", b"200")], "more than one :status"),
        ([(b":status", b"20x")], ":status"),
        ([(b":status", b"1000")], ":status"),
        ([(b"x", b"y"), (b":status", b"200")], "pseudo-header"),
        ([(b":path", b"/")], "pseudo-header"),
        ([(b":status", b"200"), (b"X", b"y")], "header name"),
        ([(b":status", b"200"), (b"", b"y")], "header name"),
        ([(b":status", b"200"), (b"connection", b"close")], "connection-specific"),
        ([(b":status", b"200"), (b"x", b"a\nb")], "control"),
        ([(b":status", b"200"), (b"content-length", b"-1")], "content-length"),
        ([(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")], "content"),
    ],
)
def test_malformed_heads_are_found(fields: list[Field], fault: str | None) -> None:
    """RFC 9113, 8.2 and 8.3: what is malformed has a fault, the rest has none."""
    head = read_head(fields, b"")
    assert (head.fault is None) == (fault is None)
    assert fault is None or (head.fault or "").startswith(fault)


def test_grpc_messages_are_percent_decoded() -> None:
    """Bytes that are no UTF-8 and percent signs without digits stay visible."""
    for sent, shown in ((b"a%20b%c3%bc", "a b\u00fc"), (b"100%", "100%"), (b"%ff", "\ufffd")):
        assert read_head([(b"grpc-message", sent)], b"").message == shown


@settings(max_examples=400)
@given(
    heads=st.lists(st.lists(FIELD, min_size=1, max_size=12), min_size=1, max_size=20),
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 10_000)), min_size=20, max_size=20),
    picks=st.lists(st.integers(0, 19), max_size=40),
)
def test_what_is_written_is_read_by_the_library(
    heads: list[list[Field]], sizes: list[int | None], picks: list[int]
) -> None:
    """First uses, repeated uses, a full table and resized ones: the fields arrive as they were."""
    ours, theirs = RequestHeads(), Decoder()
    for step, pick in enumerate(picks):
        size = sizes[step % len(sizes)]
        if size is not None:
            theirs.max_allowed_table_size = size
            ours.resize(size)
        fields = heads[pick % len(heads)]
        block = ours.encode(fields) if pick % 3 else ours.encode_plain(plain_block(fields))
        assert [tuple(field) for field in theirs.decode(block, raw=True)] == fields


def test_a_repeated_head_is_a_byte_a_field() -> None:
    """After its first use a head is only indices, and encoding it changes nothing."""
    heads = RequestHeads()
    fields = [(b":method", b"POST"), (b":path", b"/a.B/C"), (b"te", b"trailers")]
    first = heads.encode(fields)
    version = heads.version
    assert len(heads.encode(fields)) == len(fields) < len(first)
    assert heads.encode(fields) == heads.encode(fields)
    assert heads.version == version
