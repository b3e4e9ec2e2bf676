"""What the target said of itself: rows of `server.parquet`.

A scrape of a node is one row of the measure `scrape` (value 1 or 0, why it failed, how long
it took) and one for each measure; a measure that the node does not have, or that is no
finite number of 0 or more, is a row without a value. So a hole in a series is always
written down. Times are those at which the scrape began, on the clock that labels windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import msgspec
import pyarrow as pa

_NAME: Final = pa.dictionary(pa.int32(), pa.string())
SERVER: Final = pa.schema(
    [
        pa.field("at_unix_ns", pa.int64()),
        pa.field("node", _NAME),
        pa.field("measure", _NAME),
        pa.field("series", _NAME),
        pa.field("value", pa.float64()),
        pa.field("duration_ns", pa.int64()),
        pa.field("failure", _NAME),
        pa.field("message", pa.string()),
    ]
)
SERVER_TABLE: Final = "server"
SCRAPE: Final = "scrape"  # the measure that says whether a scrape came back


class ScrapeFailure(Enum):
    """Why there is no value."""

    # Of a whole scrape.
    CONNECT = "connect"
    TIMEOUT = "timeout"
    TLS = "tls"
    STATUS = "status"
    REDIRECT = "redirect"
    TOO_LARGE = "too_large"
    CONTENT_TYPE = "content_type"
    FORMAT = "format"
    PROTOCOL = "protocol"
    REFUSED = "refused"  # by the guard: an address that nobody authorised
    MISSED = "missed"  # its time passed while this host was held up
    # Of one measure in a scrape that came back.
    MISSING = "missing"
    NOT_A_NUMBER = "not_a_number"  # NaN, infinite or below 0


class ServerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row; `failure` and `message` say why `value` is None, or what a scrape failed of."""

    at_unix_ns: int
    node: str
    measure: str
    series: str
    value: float | None
    duration_ns: int
    failure: ScrapeFailure | None
    message: str | None


_DECODER: Final = msgspec.json.Decoder(list[ServerRow])


def encode_rows(rows: Sequence[ServerRow]) -> bytes:
    """JSON without a line break in it."""
    return msgspec.json.encode(rows)


def decode_rows(data: bytes) -> tuple[ServerRow, ...]:
    """Inverse of `encode_rows`; msgspec.MsgspecError when they are none."""
    return tuple(_DECODER.decode(data))


def cleaned(row: ServerRow, clean: Callable[[str], str]) -> ServerRow:
    """The row with its texts made fit to keep: names of nodes and messages come from outside."""
    return msgspec.structs.replace(
        row,
        node=clean(row.node),
        series=clean(row.series),
        message=None if row.message is None else clean(row.message),
    )


def server_batch(rows: Sequence[ServerRow]) -> pa.RecordBatch:
    """Rows as they go into the file."""
    columns = {
        "at_unix_ns": [row.at_unix_ns for row in rows],
        "node": [row.node for row in rows],
        "measure": [row.measure for row in rows],
        "series": [row.series for row in rows],
        "value": [row.value for row in rows],
        "duration_ns": [row.duration_ns for row in rows],
        "failure": [None if row.failure is None else row.failure.value for row in rows],
        "message": [row.message for row in rows],
    }
    arrays = [
        pa.array(columns[field.name], pa.string()).dictionary_encode()
        if field.type == _NAME
        else pa.array(columns[field.name], field.type)
        for field in SERVER
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SERVER)
