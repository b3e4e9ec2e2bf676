"""Templates: bytes with placeholders, compiled once, rendered a batch at a time.

A template is a row of literals and makers. `columns_of` computes the values of a whole batch
with NumPy, `rows` puts them together; they are what the engine's hot path uses. `render` is
the same for one sequence. None looks at the placeholder syntax again; `measure_cost_ns` tells
what a render costs here.

A missing environment variable is refused when the template is compiled, which happens on
the engine's own host before the run; control characters in one are refused as well, so
that a variable cannot add a header.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from loadtests.errors import Mistake, ScenarioError
from loadtests.plan.model import Feed
from loadtests.plan.placeholders import (
    KNOWN,
    MOST_POSITIONS,
    Environment,
    Maker,
    Pick,
    parse_placeholder,
)
from loadtests.plan.rows import Row, Values
from loadtests.plan.units import UnitError

_TOKEN: Final = re.compile(rb"\$\$\{|\$\{(?P<inner>[^{}]*)(?P<close>\}?)")
_MEASURED_BYTES: Final = 16 << 20
_LONGEST_SEEN: Final = 60  # characters of a wrong placeholder that a message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Compiled bytes."""

    _parts: tuple[bytes | Maker, ...]
    _row: Row  # of the same parts

    @staticmethod
    def of(parts: Sequence[bytes | Maker]) -> Template:
        """Join the parts of a source."""
        return Template(_parts=tuple(parts), _row=Row(tuple(parts)))

    @property
    def is_constant(self) -> bool:
        """True when every sequence renders the same bytes."""
        return self._row.constant is not None

    @property
    def length(self) -> int | None:
        """Bytes of every rendering, None where they differ between sequences."""
        return self._row.length

    @property
    def widest(self) -> int:
        """Bytes of a rendering at most."""
        return self._row.widest

    def render(self, sequence: int) -> bytes:
        """Bytes for one sequence (0 <= sequence < 2**56)."""
        return b"".join(
            part if isinstance(part, bytes) else part.one(sequence) for part in self._parts
        )

    def columns_of(self, sequences: NDArray[np.int64]) -> Iterator[Values]:
        """Each maker's values, made when they are taken."""
        return self._row.columns_of(sequences)

    def rows(self, columns: Sequence[Values], count: int) -> Iterable[bytes]:
        """Bytes of the `count` sequences that the columns are of, equal to `render` of each."""
        return self._row.rows(columns, count)

    def render_many(self, sequences: NDArray[np.int64]) -> list[bytes]:
        """Bytes for each sequence."""
        return self._row.texts(sequences)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A literal, or the inner text of a placeholder."""

    literal: bytes
    inner: str | None
    seen: str


def _seen(token: bytes) -> str:
    text = token.decode("utf-8", "replace")
    return text if len(text) <= _LONGEST_SEEN else text[:_LONGEST_SEEN] + "..."


def _pieces(source: bytes) -> list[_Piece]:
    """Cut at placeholders; an unclosed one has no closing brace in `seen`."""
    pieces: list[_Piece] = []
    end = 0
    for match in _TOKEN.finditer(source):
        pieces.append(_Piece(literal=source[end : match.start()], inner=None, seen=""))
        if match["inner"] is None:
            pieces.append(_Piece(literal=b"${", inner=None, seen=""))
        else:
            inner = match["inner"].decode("utf-8", "replace")
            pieces.append(_Piece(literal=b"", inner=inner, seen=_seen(match[0])))
        end = match.end()
    pieces.append(_Piece(literal=source[end:], inner=None, seen=""))
    return pieces


class Compiler:
    """Cuts sources into literals and makers; positions run on from one source to the next.

    Two placeholders that one compiler meets never have the same position, and so never the
    same values, however many fields of a message they are spread over. `environment` is
    None where variables are not to be known yet: at scenario load.
    """

    def __init__(
        self,
        where: str,
        *,
        run_id: str,
        seed: int,
        feeds: Sequence[Feed],
        environment: Mapping[str, str] | None,
    ) -> None:
        self.where, self.environment = where, environment
        self.mistakes: list[Mistake] = []
        self._run_id, self._seed, self._feeds = run_id, seed, feeds
        self._position = 0

    def refuse(self, seen: str, expected: str) -> None:
        """Note a mistake of the source at hand."""
        self.mistakes.append(Mistake(where=self.where, seen=seen, expected=expected))

    def pieces(self, source: bytes) -> list[bytes | Maker | Environment]:
        """Literals, makers and variables of a source; what is wrong in it is left out and noted."""
        found = [self._take(piece) for piece in _pieces(source)]
        return [piece for piece in found if piece is not None and piece != b""]

    def parts(self, source: bytes) -> list[bytes | Maker]:
        """The same with variables filled in; without an environment they are left out."""
        found = [
            self._fill(piece.name) if isinstance(piece, Environment) else piece
            for piece in self.pieces(source)
        ]
        return [part for part in found if part is not None]

    def finish(self) -> None:
        """ScenarioError with everything wrong in the sources so far."""
        self.refuse_excess()
        if self.mistakes:
            raise ScenarioError(self.where, tuple(self.mistakes))

    def refuse_excess(self) -> None:
        """Note when there are more placeholders than positions."""
        if self._position > MOST_POSITIONS:
            self.refuse(f"{self._position} placeholders", f"at most {MOST_POSITIONS}")

    def _fill(self, name: str) -> bytes | None:
        if self.environment is None:
            return None
        value = self.environment.get(name)
        if value is None:
            self.refuse(f"${{env:{name}}}", f"environment variable {name} set on this host")
        elif any(ord(character) < 32 or ord(character) == 127 for character in value):  # noqa: PLR2004 - ASCII controls
            self.refuse(f"${{env:{name}}}", "a value without control characters")
        else:
            return value.encode("utf-8", "surrogateescape")
        return None

    def _take(self, piece: _Piece) -> bytes | Maker | Environment | None:
        if piece.inner is None:
            return piece.literal
        if not piece.seen.endswith(("}", "...")):
            self.refuse(piece.seen, f"a closed placeholder: {KNOWN}")
            return None
        try:
            made = parse_placeholder(
                piece.inner,
                position=self._position,
                run_id=self._run_id,
                seed=self._seed,
                feeds=self._feeds,
            )
        except UnitError as error:
            self.refuse(piece.seen, error.expected)
            return None
        self._position += 1
        return made


def compile_template(
    source: bytes,
    *,
    run_id: str,
    seed: int,
    feeds: Sequence[Feed],
    environment: Mapping[str, str],
    where: str = "template",
) -> Template:
    """Compile once; ScenarioError with every wrong placeholder and missing variable."""
    compiler = Compiler(where, run_id=run_id, seed=seed, feeds=feeds, environment=environment)
    parts = compiler.parts(source)
    compiler.finish()
    return Template.of(parts)


def loading_compiler(where: str, feeds: Sequence[Feed]) -> Compiler:
    """The compiler of a scenario that is being loaded: no run, no variables yet."""
    return Compiler(where, run_id="", seed=0, feeds=feeds, environment=None)


def mistakes_of(source: bytes, where: str, feeds: Sequence[Feed]) -> tuple[Mistake, ...]:
    """Wrong placeholders of a source, variables aside: the check at scenario load."""
    compiler = loading_compiler(where, feeds)
    compiler.pieces(source)
    compiler.refuse_excess()
    return tuple(compiler.mistakes)


def texts_of(source: bytes, feeds: Sequence[Feed]) -> tuple[bytes, ...]:
    """All texts that choices and feed cells of a source can bring in."""
    pieces = loading_compiler("", feeds).pieces(source)
    return tuple(text for piece in pieces if isinstance(piece, Pick) for text in piece.choices)


def variables_of(source: bytes, feeds: Sequence[Feed]) -> frozenset[str]:
    """Names of the environment variables that a source needs."""
    pieces = loading_compiler("", feeds).pieces(source)
    return frozenset(piece.name for piece in pieces if isinstance(piece, Environment))


class Renders(Protocol):
    """What renders batches: a template, a message."""

    @property
    def widest(self) -> int:
        """Bytes of a rendering at most."""
        ...

    def render_many(self, sequences: NDArray[np.int64]) -> list[bytes]:
        """Bytes for each sequence."""
        ...


def measure_cost_ns(template: Renders, *, renders: int = 4096) -> float:
    """CPU nanoseconds of one render in a batch, measured now on this host (calibration).

    Fewer are made where they are large: all are in memory at once.
    """
    renders = max(1, min(renders, _MEASURED_BYTES // max(1, template.widest)))
    sequences = np.arange(renders, dtype=np.int64)
    template.render_many(sequences)
    began_ns = time.process_time_ns()
    template.render_many(sequences)
    return (time.process_time_ns() - began_ns) / renders
