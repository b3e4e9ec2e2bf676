"""The header blocks of responses on one HTTP/2 connection: HPACK decoded, and remembered.

Decoding is the `hpack` library's. Its result is remembered by the block's bytes for as
long as the decoder's dynamic table stays what it was: then the same bytes mean the same
fields (RFC 7541, 3.1). A block that inserts, evicts or resizes makes all be forgotten that
depends on the table, and is remembered itself only if it does not (`independent_blocks`).
Servers send few different blocks, so nearly all are found: a look-up costs 0.1 us where
decoding costs 10 (`make bench`, gRPC).

A head's form is judged here, once for each decoding (RFC 9113, 8.2 and 8.3). Bounded: a
head list of 64 KiB, a block of 32 KiB, 1,024 remembered blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from loadtests.engine.frames import HEAD_BYTES
from loadtests.engine.independent_blocks import IndependentBlocks, is_independent

HEAD_LIST_LIMIT_BYTES: Final = 64 * 1024
BLOCK_LIMIT_BYTES: Final = 32 * 1024
_MOST_BLOCKS: Final = 1024
_LONGEST_MEMO_BYTES: Final = 2048
_LONGEST_NUMBER: Final = 18  # digits; more is no length and no gRPC code
_HTTP_OK: Final = 200
# RFC 9113, 8.2.2: a head that holds one of these is malformed.
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)

NO_CODE: Final = -1  # `Head.code` without a (legible) grpc-status


class BlockError(Exception):
    """A block that cannot be decoded: both ends no longer agree on the table."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """What matters of one header list: a response's head or its trailers."""

    status: int  # 0: no :status, so these can only be trailers
    code: int  # grpc-status, NO_CODE without
    message: str  # grpc-message, percent-decoded
    is_grpc: bool  # 200 and a content type of gRPC
    encoding: bytes  # grpc-encoding
    length: int | None  # content-length
    fault: str | None  # why the list is malformed
    block: bytes  # as it came
    frame_bytes: int  # of a HEADERS frame with this block
    is_plain: bool  # a final head without fault
    is_trailer: bool  # trailers with a legible grpc-status, without fault

    @property
    def is_informational(self) -> bool:
        """True for 1xx."""
        return 100 <= self.status < _HTTP_OK  # noqa: PLR2004 - RFC 9110, 15.2


class _WatchedTable(HeaderTable):
    """The library's dynamic table; `is_touched` tells that it has been changed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_touched = False
        self.inserted: list[tuple[bytes, bytes]] = []

    def add(self, name: bytes, value: bytes) -> None:
        """Insert, which may evict."""
        self.is_touched = True
        self.inserted.append((name, value))
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Largest size in bytes."""
        return int(super().maxsize)

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.is_touched = True
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]  # a property's setter


class ResponseHeads:
    """Decoder of one connection; `find` gives what is known of a block, else None."""

    __slots__ = ("_decoder", "_dependent", "_independent", "_memo", "_table", "find", "on_change")

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=HEAD_LIST_LIMIT_BYTES)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._memo: dict[bytes, Head] = {}
        self._dependent: list[bytes] = []  # of the memo: what means this with this table only
        self._independent = IndependentBlocks[Head](self._table)
        self.find: Callable[[bytes], Head | None] = self._memo.get
        self.on_change: Callable[[], None] = _nobody  # blocks found before may not be any more

    def __len__(self) -> int:
        return len(self._memo)

    def decode(self, block: bytes) -> Head:
        """Decode the next block in order; BlockError ends the connection."""
        known = self._memo.get(block)
        if known is not None:
            return known
        known = self._independent.take(block)
        if known is not None:
            self._forget_dependent()
            return known
        if len(block) > BLOCK_LIMIT_BYTES:
            raise BlockError(f"a header block of {len(block)} bytes")
        table = self._table
        self._independent.pay()
        table.is_touched = False
        table.inserted.clear()
        try:
            head = read_head(self._decoder.decode(block, raw=True), block)
        except (HPACKError, IndexError) as error:
            raise BlockError(str(error) or type(error).__name__) from None
        self._remember(block, head)
        return head

    def _remember(self, block: bytes, head: Head) -> None:
        """Keep what a block means, unless it is long, or the next would not mean the same."""
        table = self._table
        if table.is_touched:
            self._forget_dependent()
        if len(block) > _LONGEST_MEMO_BYTES:
            return
        independent = is_independent(block)
        if not table.is_touched:
            if len(self._memo) >= _MOST_BLOCKS:
                self._memo.clear()
                self._dependent.clear()
                self.on_change()
            self._memo[block] = head
            if not independent:
                self._dependent.append(block)
        elif independent:
            self._independent.keep(block, head, tuple(table.inserted))

    def _forget_dependent(self) -> None:
        """The table has changed: forget what depends on it."""
        for block in self._dependent:
            del self._memo[block]
        self._dependent.clear()
        self.on_change()


def _nobody() -> None:
    """Nobody depends on the memo yet."""


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def _form_fault(name: bytes, value: bytes, *, is_behind: bool) -> str | None:
    """Say what is wrong with one field (RFC 9113, 8.2.1, 8.3)."""
    if name[:1] == b":":
        if name != b":status" or is_behind:
            return f"pseudo-header {name[:40]!r} where none may be"
    elif not name or name != name.lower() or any(byte <= 0x20 or byte >= 0x7F for byte in name):  # noqa: PLR2004
        return f"header name {name[:40]!r}"
    elif name in _OF_CONNECTIONS:
        return f"connection-specific header {name!r}"
    if any(byte in b"\0\r\n" for byte in value):
        return f"control characters in {name[:40]!r}"
    return None


def read_head(fields: Iterable[tuple[bytes, bytes]], block: bytes) -> Head:
    """Read a decoded list and judge its form; never raises."""
    statuses: list[bytes] = []
    lengths: set[bytes] = set()
    seen: dict[bytes, bytes] = {}
    fault: str | None = None
    is_behind = False
    for given_name, given_value in fields:
        name, value = bytes(given_name), bytes(given_value)
        fault = fault or _form_fault(name, value, is_behind=is_behind)
        if name == b":status":
            statuses.append(value)
            continue
        is_behind = True
        if name == b"content-length":
            lengths.add(value.strip())
        seen[name] = value
    if len(statuses) > 1:
        fault = fault or "more than one :status"
    status = _number(statuses[0]) if statuses else 0
    length = _number(lengths.pop()) if len(lengths) == 1 else None
    if status is None or (statuses and not 100 <= status <= 999):  # noqa: PLR2004 - RFC 9110, 15
        status, fault = 0, fault or f":status {statuses[0][:20]!r}"
    if lengths or (length is None and b"content-length" in seen):
        fault = fault or "content-length that is no number, or is two"
    code = _number(seen.get(b"grpc-status", b""))
    content_type = seen.get(b"content-type", b"")
    return Head(
        status=status,
        code=NO_CODE if code is None else code,
        message=unquote_to_bytes(seen.get(b"grpc-message", b"")).decode(errors="replace"),
        is_grpc=status == _HTTP_OK and content_type.startswith(b"application/grpc"),
        encoding=seen.get(b"grpc-encoding", b"identity"),
        length=length,
        fault=fault,
        block=block,
        frame_bytes=HEAD_BYTES + len(block),
        is_plain=fault is None and status >= _HTTP_OK,
        is_trailer=fault is None and status == 0 and code is not None,
    )
