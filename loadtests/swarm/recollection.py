"""What a master writes down so that another one can take its place.

Beside the windows themselves the journal holds, as opaque frames: one `Anchor` when the run
begins, and a `Checkpoint` whenever membership, shares or the run's end change under load.
With each batch of windows goes a `BatchNote`, so that the book of its agent (`merge.Ledger`)
can be kept on. Leases are not written down: whoever takes over counts with the longest that
can be out.

Pure: values, their bytes, and the parts of a coordinator made from them and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from loadtests.plan.model import Share
from loadtests.record.window import SlotSpace
from loadtests.swarm.holdings import Holding, Loss
from loadtests.swarm.lease import ClockEstimate
from loadtests.swarm.membership import Member, Standing
from loadtests.swarm.merge import Ledger
from loadtests.swarm.messages import Hello, Progress, SharePart, Snapshot
from loadtests.swarm.run_state import End, EndCause


class _Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what an opaque frame of the journal may be."""


class Anchor(_Frame, frozen=True, kw_only=True, tag="anchor"):
    """Where a run is anchored. `port` 0: its agents were the master's own children."""

    boot_id: str  # of the master's kernel: with the same one its monotonic clock goes on
    unix_minus_monotonic_ns: int
    agents: int
    host: str
    port: int
    warnings: tuple[str, ...]  # of the draft, before there were agents


class LossNote(msgspec.Struct, frozen=True, array_like=True):
    """`holdings.Loss`."""

    how: str
    last_ns: int
    free_ns: int
    cut_ns: int | None


class HoldingNote(msgspec.Struct, frozen=True, array_like=True):
    """`holdings.Holding`; shares are (residue, modulus, from_ns)."""

    index: int
    engine: str
    incarnation: str
    shares: tuple[tuple[int, int, int], ...]
    loss: LossNote | None


class MemberNote(msgspec.Struct, frozen=True, array_like=True):
    """`membership.Member`; `clock` is the best exchange: round trip, offset, wall in ns."""

    peer: str
    hello: Hello
    first_index: int
    lost_ns: int | None
    takeovers: tuple[SharePart, ...]
    snapshot: Snapshot | None  # the newest, without its batches
    clock: tuple[int, int, int] | None


class EndNote(msgspec.Struct, frozen=True, array_like=True):
    """`run_state.End`, without its deadline."""

    cause: EndCause
    reason: str
    at_ns: int


class Checkpoint(_Frame, frozen=True, kw_only=True, tag="checkpoint"):
    """The state of a run under load that agents do not tell again. Times: master's clock."""

    attempt: int
    t0_ns: int
    members: tuple[MemberNote, ...]
    holdings: tuple[HoldingNote, ...]
    end: EndNote | None


class BatchNote(msgspec.Struct, frozen=True, array_like=True):
    """Number and progress of a `messages.Batch`, kept with its window."""

    number: int
    progress: tuple[Progress, ...]


_ENCODER: Final = msgspec.msgpack.Encoder()
_FRAMES: Final[msgspec.msgpack.Decoder[Anchor | Checkpoint]] = msgspec.msgpack.Decoder(
    Anchor | Checkpoint
)
_NOTES: Final[msgspec.msgpack.Decoder[BatchNote]] = msgspec.msgpack.Decoder(BatchNote)


def encode_frame(frame: Anchor | Checkpoint) -> bytes:
    """Bytes for an opaque frame."""
    return _ENCODER.encode(frame)


def decode_frame(data: bytes) -> Anchor | Checkpoint:
    """Decode them; ValueError for anything else."""
    return _FRAMES.decode(data)  # a msgspec error is a ValueError


def encode_note(note: BatchNote) -> bytes:
    """Bytes for the note of a batch."""
    return _ENCODER.encode(note)


def decode_note(data: bytes) -> BatchNote:
    """Decode them; ValueError for anything else."""
    return _NOTES.decode(data)


def cleaned(checkpoint: Checkpoint, clean: Callable[[str], str]) -> Checkpoint:
    """The same with texts of foreign origin cleaned of secrets."""
    end = checkpoint.end
    return replace(
        checkpoint,
        end=None if end is None else replace(end, reason=clean(end.reason)),
        members=tuple(
            replace(note, snapshot=note.snapshot and _cleaned_snapshot(note.snapshot, clean))
            for note in checkpoint.members
        ),
        holdings=tuple(
            replace(note, loss=note.loss and replace(note.loss, how=clean(note.loss.how)))
            for note in checkpoint.holdings
        ),
    )


def _cleaned_snapshot(snapshot: Snapshot, clean: Callable[[str], str]) -> Snapshot:
    return replace(
        snapshot,
        warnings=tuple(map(clean, snapshot.warnings)),
        failure=snapshot.failure and clean(snapshot.failure),
        engines=tuple(
            replace(state, reason=clean(state.reason), warnings=tuple(map(clean, state.warnings)))
            for state in snapshot.engines
        ),
    )


def build_checkpoint(
    *,
    attempt: int,
    t0_ns: int,
    members: Iterable[Member],
    holdings: Iterable[Holding],
    end: End | None,
) -> Checkpoint:
    """What is to be written down of a coordinator under load."""
    return Checkpoint(
        attempt=attempt,
        t0_ns=t0_ns,
        members=tuple(
            MemberNote(
                peer=member.peer,
                hello=member.hello,
                first_index=member.first_index,
                lost_ns=None if member.is_alive else member.lost_ns,
                takeovers=tuple(member.takeovers),
                snapshot=member.snapshot,
                clock=member.clock.best,
            )
            for member in members
        ),
        holdings=tuple(_holding_note(holding) for holding in holdings),
        end=None if end is None else EndNote(end.cause, end.reason, end.at_ns),
    )


def _holding_note(holding: Holding) -> HoldingNote:
    loss = holding.loss
    return HoldingNote(
        holding.index,
        holding.engine,
        holding.incarnation,
        tuple((share.residue, share.modulus, share.from_ns) for share in holding.shares),
        None if loss is None else LossNote(loss.how, loss.last_ns, loss.free_ns, loss.cut_ns),
    )


def restored_members(
    checkpoint: Checkpoint, slots: SlotSpace, *, heard_ns: int, granted_until_ns: int
) -> dict[str, Member]:
    """Members by incarnation, as if heard at `heard_ns`; nobody holds a longer lease."""
    members = {}
    for note in checkpoint.members:
        first, engines = note.first_index, note.hello.engines
        member = Member(
            peer=note.peer,
            hello=note.hello,
            clock=ClockEstimate(is_same_kernel=False, first=note.clock),
            heard_ns=heard_ns if note.lost_ns is None else note.lost_ns,
            ledger=Ledger(range(first, first + engines), slots),
            standing=Standing.ALIVE if note.lost_ns is None else Standing.LOST,
            first_index=first,
            granted_until_ns=granted_until_ns,
            lost_ns=note.lost_ns,
            takeovers=list(note.takeovers),
            snapshot=note.snapshot,
        )
        members[member.incarnation] = member
    return members


def restored_holdings(checkpoint: Checkpoint) -> Mapping[int, Holding]:
    """Holdings by index."""
    return {
        note.index: Holding(
            index=note.index,
            engine=note.engine,
            incarnation=note.incarnation,
            shares=[Share(residue=r, modulus=m, from_ns=at) for r, m, at in note.shares],
            loss=None
            if note.loss is None
            else Loss(
                how=note.loss.how,
                last_ns=note.loss.last_ns,
                free_ns=note.loss.free_ns,
                cut_ns=note.loss.cut_ns,
            ),
        )
        for note in checkpoint.holdings
    }
