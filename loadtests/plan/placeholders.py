"""Placeholders: `${...}` parsed once into small makers, each a pure function of a sequence.

    ${seq}            the arrival's number over the run: 0, 1, 2 ...
    ${seq:N}          the same in N digits, 12..18, with zeros before it: of one length
    ${run}            12 hex digits, the same for the whole run, others in another run
    ${uuid}           unique over the run, different between runs (RFC 9562 layout, version 4)
    ${hex:N}          N hex digits, 1..64
    ${int:A:B}        a whole number, A <= value <= B
    ${choice:a|b|c}   one of the texts, equally likely
    ${feed.column}    a cell of a CSV feed; row = sequence modulo rows
    ${env:NAME}       an environment variable of the engine's host; never stored
    $${               the text ${

Values never depend on how many engines there are. `hex`, `int` and `choice` are functions
of (seed, sequence, position in the template); `uuid` of (run, sequence, position).
Uniqueness of uuids in a run is by construction: 62 of their bits are a bijection of
64 * sequence + position, for sequences below 2**56. The other 60 and the bijection's key
come from the run id, so two runs meet with the chance of random uuids.

Each kind has a scalar and a batch form side by side, which is what makes this module long.
"""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.cells import Cells, cells_of_texts, decimals, full, padded_decimals
from loadtests.plan.mixing import (
    MASK64,
    Words,
    bijection62,
    bijection62_many,
    key_of,
    mix64,
    mix64_many,
    words_of,
)
from loadtests.plan.model import Feed
from loadtests.plan.rows import Column, Narrow
from loadtests.plan.units import UnitError

MOST_POSITIONS: Final = 64
KNOWN: Final = (
    "${seq}, ${seq:N}, ${run}, ${uuid}, ${hex:N}, ${int:A:B}, ${choice:a|b}, ${feed.column} or "
    "${env:NAME} (write $${ for a literal ${)"
)
_MOST_HEX_DIGITS: Final = 64
_SEQ_DIGITS: Final = range(12, 19)  # from more arrivals than any run has to all of 2**56
_HIGHEST_INT: Final = 2**62
_VERSION_4: Final = 0x4000  # RFC 9562, section 5.4: four bits of the first half
_NOT_VERSION: Final = MASK64 ^ 0xF000
_VARIANT: Final = 1 << 63  # two bits of the second half, the lower of them 0
_TWO: Final = np.uint64(2)
# What of the scrambled bits is kept in each half (a row each), and what is set.
_KEPT: Final = np.array(((_NOT_VERSION,), (MASK64,)), dtype=np.uint64)
_FIXED: Final = np.array(((_VERSION_4,), (_VARIANT,)), dtype=np.uint64)
# The groups of a uuid among its 32 digits, and between dashes; copied as numbers of 4 or 8
# bytes, the last group as two, they take a quarter of the time.
_NAMES: Final = ("time_low", "time_mid", "time_high", "clock", "node_high", "node_low")
_WIDTHS: Final = ("u8", "u4", "u4", "u4", "u4", "u8")


def _groups(offsets: Sequence[int], size: int) -> np.dtype[np.void]:
    return np.dtype({"names": _NAMES, "formats": _WIDTHS, "offsets": offsets, "itemsize": size})


_DIGIT_GROUPS: Final = _groups((0, 8, 12, 16, 20, 24), 32)
_UUID_GROUPS: Final = _groups((0, 9, 14, 19, 24, 28), 36)
_INT: Final = re.compile(r"int:(-?\d{1,19}):(-?\d{1,19})")
_DIGITS: Final = re.compile(r"(hex|seq):(\d{1,3})")
_ENV: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_CELL: Final = re.compile(r"([A-Za-z0-9_-]+)\.(.+)")

Sequences = NDArray[np.int64]


class Maker(Column, Protocol):
    """Makes the text that stands for one placeholder."""

    def one(self, sequence: int) -> bytes:
        """Text for one sequence."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq(Narrow):
    """The sequence number itself; `length` digits, if given, with zeros before it.

    The fewest digits that may be asked for, 12, are more arrivals than any run has.
    """

    length: int | None = None
    widest: int = _SEQ_DIGITS.stop - 1

    def one(self, sequence: int) -> bytes:
        """Write the number."""
        return b"%0*d" % (self.length or 1, sequence)

    def numbers(self, sequences: Sequences) -> NDArray[np.int64]:
        """The numbers themselves."""
        return sequences

    def cells(self, sequences: Sequences) -> Cells:
        """Write the numbers."""
        if self.length is None:
            return decimals(sequences)
        return full(padded_decimals(sequences, self.length)[:, -self.length :])


def _hex_digits(words: Words) -> NDArray[np.uint8]:
    """ASCII hex digits of words: shape (n, k) to (n, 16 * k)."""
    digits = np.frombuffer(hexlify(words.astype(">u8").tobytes()), dtype=np.uint8)
    return digits.reshape(len(words), 16 * words.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Uuid(Narrow):
    """60 scrambled bits, the version, the variant and 62 bits of the bijection."""

    run_key: int
    other_key: int  # of the first half
    position: int
    length: int | None = 36
    widest: int = 36

    def one(self, sequence: int) -> bytes:
        """Groups of 8, 4, 4, 4 and 12 hex digits."""
        label = sequence * MOST_POSITIONS + self.position
        high = bijection62(label, self.other_key)
        high = (high ^ high << 2) & _NOT_VERSION | _VERSION_4  # its highest bits differ, too
        low = bijection62(label, self.run_key) | _VARIANT
        digits = b"%016x%016x" % (high, low)
        return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def cells(self, sequences: Sequences) -> Cells:
        """The same, laid out by NumPy: 0.1 instead of 0.7 us each."""
        labels = words_of(sequences) * np.uint64(MOST_POSITIONS) + np.uint64(self.position)
        keys = np.array(((self.other_key,), (self.run_key,)), dtype=np.uint64)
        halves = bijection62_many(labels, keys)  # a row each: NumPy's inner loops are long
        halves[0] ^= halves[0] << _TWO
        halves &= _KEPT
        halves |= _FIXED
        digits = _hex_digits(halves.T)
        rows = np.full((sequences.size, 36), ord("-"), dtype=np.uint8)
        source, target = digits.view(_DIGIT_GROUPS), rows.view(_UUID_GROUPS)
        for name in _NAMES:
            target[name] = source[name]
        return full(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hex(Narrow):
    """The first `length` digits of as many keyed words as they need."""

    keys: tuple[int, ...]
    length: int
    widest: int

    @staticmethod
    def of(key: int, digits: int) -> Hex:
        """16 digits a word."""
        words = -(-digits // 16)
        keys = tuple(mix64(key + word) for word in range(words))
        return Hex(keys=keys, length=digits, widest=digits)

    def one(self, sequence: int) -> bytes:
        """One text."""
        words = [b"%016x" % mix64(sequence ^ key) for key in self.keys]
        return b"".join(words)[: self.length]

    def cells(self, sequences: Sequences) -> Cells:
        """All digits of the words, cut off."""
        keys = np.array(self.keys, dtype=np.uint64)
        words = mix64_many(words_of(sequences)[:, np.newaxis] ^ keys)
        return full(_hex_digits(words)[:, : self.length])


@dataclass(frozen=True, slots=True, kw_only=True)
class Int(Narrow):
    """`low` + scrambled word modulo `span`; the bias is below span / 2**64."""

    key: int
    low: int
    span: int
    length: int | None
    widest: int

    def one(self, sequence: int) -> bytes:
        """One number."""
        return b"%d" % (self.low + mix64(sequence ^ self.key) % self.span)

    def numbers(self, sequences: Sequences) -> NDArray[np.int64]:
        """The numbers themselves."""
        words = mix64_many(words_of(sequences) ^ np.uint64(self.key))
        return (words % np.uint64(self.span)).astype(np.int64) + self.low

    def cells(self, sequences: Sequences) -> Cells:
        """The numbers in decimal."""
        numbers = self.numbers(sequences)
        if self.length is not None and self.low >= 0:
            return full(padded_decimals(numbers, self.length)[:, -self.length :])
        return decimals(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One of some texts: scrambled for a choice, in turn (`key` None) for a feed's rows."""

    choices: tuple[bytes, ...]
    key: int | None
    length: int | None
    widest: int

    @staticmethod
    def of(choices: tuple[bytes, ...], key: int | None) -> Pick:
        """Know the length where all texts share it."""
        lengths = {len(text) for text in choices}
        length = next(iter(lengths)) if len(lengths) == 1 else None
        return Pick(choices=choices, key=key, length=length, widest=max(lengths))

    def one(self, sequence: int) -> bytes:
        """One text."""
        word = sequence if self.key is None else mix64(sequence ^ self.key)
        return self.choices[word % len(self.choices)]

    def texts(self, sequences: Sequences) -> list[bytes]:
        """One text for each."""
        words = words_of(sequences)
        if self.key is not None:
            words = mix64_many(words ^ np.uint64(self.key))
        return list(map(self.choices.__getitem__, (words % np.uint64(len(self.choices))).tolist()))

    def cells(self, sequences: Sequences) -> Cells:
        """The same as cells."""
        return cells_of_texts(self.texts(sequences))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A variable of the engine's host: constant there, unknown anywhere else."""

    name: str


def _make_int(match: re.Match[str], key: int) -> Int:
    low, high = int(match[1]), int(match[2])
    if low > high or max(abs(low), abs(high)) >= _HIGHEST_INT:
        raise UnitError("${int:A:B} with A <= B, both within 2**62")
    lengths = {len(str(low)), len(str(high))}
    is_fixed = len(lengths) == 1 and (low < 0) == (high < 0)
    return Int(
        key=key,
        low=low,
        span=high - low + 1,
        length=max(lengths) if is_fixed else None,
        widest=max(lengths),
    )


def _make_digits(match: re.Match[str], key: int) -> Hex | Seq:
    """Both of N digits."""
    digits = int(match[2])
    if match[1] == "seq":
        if digits not in _SEQ_DIGITS:
            raise UnitError("${seq:N} with N from 12 to 18")
        return Seq(length=digits, widest=digits)
    if not 1 <= digits <= _MOST_HEX_DIGITS:
        raise UnitError("${hex:N} with N from 1 to 64")
    return Hex.of(key, digits)


def _make_cell(match: re.Match[str], feeds: Sequence[Feed]) -> Pick:
    feed = next((feed for feed in feeds if feed.name == match[1]), None)
    if feed is None:
        known = ", ".join(feed.name for feed in feeds) or "none is defined"
        raise UnitError(f"a feed of [[feeds]] ({known}), or {KNOWN}")
    if match[2] not in feed.columns:
        raise UnitError(f"a column of feed {feed.name} ({', '.join(feed.columns)})")
    column = feed.columns.index(match[2])
    return Pick.of(tuple(row[column].encode() for row in feed.rows), None)


def parse_placeholder(
    inner: str, *, position: int, run_id: str, seed: int, feeds: Sequence[Feed]
) -> Maker | Environment:
    """The maker of the text between `${` and `}`; UnitError says what was expected."""
    key = key_of("placeholder", seed, position)
    if inner in {"seq", "uuid", "run"}:
        plain: dict[str, Maker] = {
            "seq": Seq(),
            "uuid": Uuid(
                run_key=key_of("uuid", run_id),
                other_key=key_of("uuid, first half", run_id),
                position=position,
            ),
            "run": Pick.of((b"%012x" % (key_of("run", run_id) >> 16),), None),
        }
        return plain[inner]
    if match := _DIGITS.fullmatch(inner):
        return _make_digits(match, key)
    if match := _INT.fullmatch(inner):
        return _make_int(match, key)
    if inner.startswith("choice:"):
        return Pick.of(tuple(text.encode() for text in inner[7:].split("|")), key)
    if match := _ENV.fullmatch(inner):
        return Environment(name=match[1])
    if match := _CELL.fullmatch(inner):
        return _make_cell(match, feeds)
    raise UnitError(KNOWN)
