"""Rows: literals and columns one after the other, rendered for many sequences at once.

A row of ordinary width is put together by NumPy, for all sequences in one go; where a row
can be wide (a large body with a few placeholders, a feed of long texts), its texts are joined
one by one instead, so that a batch never takes more memory than its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from loadtests.plan.cells import Cells, joined

WIDE_BYTES: Final = 512  # an engine's batch of 4,096 rows: a matrix of 2 MB at most

Integers = NDArray[np.int64]
Sequences = NDArray[np.int64]
Values = Cells | list[bytes]  # of many sequences, in order: a column


class Column(Protocol):
    """Makes a part of a row that differs between sequences."""

    @property
    def length(self) -> int | None:
        """Bytes that it fills, where that is the same for every sequence."""
        ...

    @property
    def widest(self) -> int:
        """Bytes that it fills at most."""
        ...

    def cells(self, sequences: Sequences) -> Cells:
        """Its texts for many sequences."""
        ...

    def texts(self, sequences: Sequences) -> list[bytes]:
        """The same, for a row that can be wide."""
        ...


class Narrow:
    """A column whose texts are made as cells even where they are joined one by one."""

    __slots__ = ()

    def texts(self: Column, sequences: Sequences) -> list[bytes]:
        """Texts cut from cells."""
        return self.cells(sequences).texts()


Node = bytes | Column


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes in the order of their bytes."""

    nodes: tuple[Node, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What differs between sequences."""
        return tuple(node for node in self.nodes if not isinstance(node, bytes))

    @property
    def constant(self) -> bytes | None:
        """All of it where nothing differs."""
        return None if self.columns else b"".join(cast("tuple[bytes, ...]", self.nodes))

    @property
    def length(self) -> int | None:
        """Bytes of a row, where all have the same."""
        lengths = [len(node) if isinstance(node, bytes) else node.length for node in self.nodes]
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    @property
    def widest(self) -> int:
        """Bytes of a row at most."""
        return sum(len(node) if isinstance(node, bytes) else node.widest for node in self.nodes)

    @property
    def is_wide(self) -> bool:
        """Whether its columns are lists of texts, and no cells."""
        return self.widest > WIDE_BYTES

    def columns_of(self, sequences: Sequences) -> Iterator[Values]:
        """Each column's values, made when it is taken."""
        is_wide = self.is_wide
        for column in self.columns:
            yield column.texts(sequences) if is_wide else column.cells(sequences)

    def rows(self, columns: Sequence[Values], count: int) -> Iterable[bytes]:
        """Bytes of the `count` sequences that the columns are of; cells where NumPy has them."""
        constant = self.constant
        if constant is not None:
            return repeat(constant, count)
        if self.is_wide:
            parts = self._parts(columns)
            texts = [repeat(part) if isinstance(part, bytes) else part for part in parts]
            return map(b"".join, zip(*cast("list[list[bytes]]", texts), strict=False))
        return self.joined(columns, count)

    def _parts(self, columns: Sequence[Values]) -> list[bytes | Values]:
        """Literals and values in the order of their bytes."""
        values = iter(columns)
        return [node if isinstance(node, bytes) else next(values) for node in self.nodes]

    def joined(
        self, columns: Sequence[Values], count: int, head: Callable[[Integers], Cells] | None = None
    ) -> Cells:
        """The same as `rows` in cells, behind a head made of its lengths; the row is not wide."""
        parts = cast("list[bytes | Cells]", self._parts(columns))
        if head is not None:
            lengths = sum(len(p) if isinstance(p, bytes) else p.lengths for p in parts)
            each = np.full(count, lengths) if isinstance(lengths, int) else lengths
            parts.insert(0, head(each))
        return joined(parts, count)

    def texts(self, sequences: Sequences) -> list[bytes]:
        """Bytes of each sequence."""
        return list(self.rows(list(self.columns_of(sequences)), sequences.size))
