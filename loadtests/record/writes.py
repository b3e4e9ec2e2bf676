"""The clients' log of writes: what became of each, as the audit after a failover needs it.

An entry is an arrival's intended time (ns from T0), its slot, and how it ended: OK
(acknowledged), FAIL (known not to have been done: refused, or it never left) or INFO (not
known: it may have been done). An arrival's number follows from its intended time and the
plan, and its id from its number, so ids need not be kept. Entries are only ever added; what
an engine could not keep is counted (`unlogged`), never forgotten in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtests.record.error_kinds import GRPC_PREFIX, STATUS_PREFIX, Trait, traits_of

WRITES_TABLE: Final = "writes"
_NAME: Final = pa.dictionary(pa.int32(), pa.string())
WRITES: Final = pa.schema(
    [
        pa.field("window_s", pa.int64()),
        pa.field("due_ns", pa.int64()),
        pa.field("slot", pa.int64()),
        pa.field("outcome", _NAME),
        pa.field("count", pa.int64()),
    ]
)
UNLOGGED: Final = "unlogged"  # the outcome of a row that counts what was not kept

Integers = NDArray[np.int64]


class WriteOutcome(IntEnum):
    """How a write ended for its client."""

    OK = 0
    FAIL = 1
    INFO = 2


# Statuses that say "not done". All 4xx but 408 (the server gave up waiting); never a 5xx,
# which may have been answered by somebody who does not know.
_NOT_DONE_CODES: Final = frozenset({3, 5, 7, 8, 9, 11, 12, 16})  # gRPC, without UNAVAILABLE
_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500
_REQUEST_TIMEOUT: Final = 408


def outcome_of(kind: str) -> WriteOutcome:
    """What the error kind of a request that was not ok says of its write."""
    if Trait.NEVER_LEFT in traits_of(kind):
        return WriteOutcome.FAIL
    for prefix, is_not_done in ((STATUS_PREFIX, _is_refusal), (GRPC_PREFIX, _is_refused_call)):
        number = kind.removeprefix(prefix)
        if number != kind and number.isdigit() and is_not_done(int(number)):
            return WriteOutcome.FAIL
    return WriteOutcome.INFO


def _is_refusal(status: int) -> bool:
    return _FIRST_CLIENT_ERROR <= status < _FIRST_SERVER_ERROR and status != _REQUEST_TIMEOUT


def _is_refused_call(code: int) -> bool:
    return code in _NOT_DONE_CODES


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """Rows of (due_ns, slot, outcome), in this order sorted: (n, 3) int64."""

    rows: Integers
    unlogged: int

    def __len__(self) -> int:
        return len(self.rows)


NO_WRITES: Final = Writes(rows=np.empty((0, 3), dtype=np.int64), unlogged=0)


def writes_of(entries: Sequence[int], unlogged: int) -> Writes:
    """Writes of three numbers an entry."""
    return _sorted(np.array(entries, dtype=np.int64).reshape(-1, 3), unlogged)


def _sorted(rows: Integers, unlogged: int) -> Writes:
    return Writes(rows=rows[np.lexsort(rows.T[::-1])], unlogged=unlogged)


def merge_writes(parts: Sequence[Writes]) -> Writes:
    """All entries of all parts, whatever their order."""
    filled = [part for part in parts if len(part) or part.unlogged]
    if len(filled) <= 1:
        return filled[0] if filled else NO_WRITES
    rows = np.concatenate([part.rows for part in filled])
    return _sorted(rows, sum(part.unlogged for part in filled))


class PackedWrites(msgspec.Struct, array_like=True):
    """Columns in bytes; all numbers are little endian."""

    dues: bytes  # i8
    slots: bytes  # u2
    outcomes: bytes  # u1
    unlogged: int


def pack_writes(writes: Writes) -> PackedWrites | None:
    """Encode; None where there are none."""
    if not len(writes) and not writes.unlogged:
        return None
    dues, slots, outcomes = writes.rows.T
    return PackedWrites(
        dues.astype("<i8").tobytes(), slots.astype("<u2").tobytes(),
        outcomes.astype("u1").tobytes(), writes.unlogged,
    )  # fmt: skip


def unpack_writes(packed: PackedWrites | None) -> Writes:
    """Inverse of `pack_writes`; ValueError when the parts contradict each other."""
    if packed is None:
        return NO_WRITES
    dues = np.frombuffer(packed.dues, dtype="<i8")
    slots = np.frombuffer(packed.slots, dtype="<u2")
    outcomes = np.frombuffer(packed.outcomes, dtype="u1")
    if not dues.size == slots.size == outcomes.size or packed.unlogged < 0:
        raise ValueError("arrays of writes differ in length")
    if outcomes.max(initial=0) > max(WriteOutcome):
        raise ValueError("a write with an unknown outcome")
    return _sorted(np.stack([dues, slots, outcomes], axis=1).astype(np.int64), packed.unlogged)


def writes_batch(start_s: int, writes: Writes) -> pa.RecordBatch:
    """Rows of the table for the window `start_s`."""
    dues, slots, outcomes = writes.rows.T
    words = [WriteOutcome(number).name.lower() for number in outcomes.tolist()]
    extra = 1 if writes.unlogged else 0
    columns = [
        pa.array(np.full(len(writes) + extra, start_s, dtype=np.int64)),
        pa.array(np.append(dues, [-1] * extra)),
        pa.array(np.append(slots, [-1] * extra)),
        pa.array(words + [UNLOGGED] * extra, pa.string()).dictionary_encode(),
        pa.array([1] * len(writes) + [writes.unlogged] * extra, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=WRITES)
