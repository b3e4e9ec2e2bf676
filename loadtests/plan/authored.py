"""A message as its author wrote it: protobuf's JSON form, as a TOML table or JSON text.

Texts with placeholders become `Source`; everything else stays the value it is. In JSON a
placeholder may stand without quotes, as a number does (`{"amount": ${int:1:9}}`). What
fits which field is not known here: `parts.py` asks the types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from loadtests.plan.model import Feed
from loadtests.plan.placeholders import Environment, Maker
from loadtests.plan.template import Compiler, loading_compiler
from loadtests.plan.units import UnitError
from loadtests.plan.values import Mistakes, shown

DEEPEST: Final = 100  # as protobuf's own parsers
JSON_EXPECTED: Final = "JSON (RFC 8259); a placeholder may stand for a text or a number"
_STRING_OR_BARE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\$\{[^{}]*\}', re.DOTALL)
_BARE_KEY: Final = "\0bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A text with placeholders; `is_bare`: without quotes in JSON; `is_wrong`: and noted."""

    text: str
    pieces: tuple[bytes | Maker | Environment, ...]
    is_bare: bool
    is_wrong: bool


@dataclass(frozen=True, slots=True)
class _Bare:
    text: str


def _mark(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else json.dumps({_BARE_KEY: match[0]})


def _table(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0] == _BARE_KEY:
        return _Bare(pairs[0][1])
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnitError(f"{JSON_EXPECTED}, without {shown(twice)} twice")
    return table


def _refuse_constant(word: str) -> Any:
    raise UnitError(f'{JSON_EXPECTED}: "{word}" in quotes')


def parse_json(text: str) -> object:
    """The document, placeholders outside of quotes marked; UnitError says what is wrong."""
    try:
        document: object = json.loads(
            _STRING_OR_BARE.sub(_mark, text),
            object_pairs_hook=_table,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise UnitError(f"{JSON_EXPECTED}: {error.msg} in line {error.lineno}") from None
    except (RecursionError, ValueError) as error:
        raise error if isinstance(error, UnitError) else UnitError(JSON_EXPECTED) from None
    if document is None:
        raise UnitError("a message, not null")
    return document


class _Reader:
    """Replaces texts by what they are; one compiler sees all placeholders of the message."""

    def __init__(self, compiler: Compiler, mistakes: Mistakes) -> None:
        self.compiler, self.mistakes = compiler, mistakes

    def text(self, text: str, where: str, *, is_bare: bool) -> str | Source:
        """A constant text, its escapes resolved, or a source."""
        if "${" not in text:
            return text
        self.compiler.where, before = where, len(self.compiler.mistakes)
        pieces = self.compiler.pieces(text.encode())
        is_wrong = len(self.compiler.mistakes) > before
        if not is_wrong and all(isinstance(piece, bytes) for piece in pieces):
            return b"".join(piece for piece in pieces if isinstance(piece, bytes)).decode()
        return Source(text=text, pieces=tuple(pieces), is_bare=is_bare, is_wrong=is_wrong)

    def read(self, value: object, where: str, depth: int) -> object:
        """One value and all below it."""
        if depth > DEEPEST:
            self.mistakes.add(where, "tables without end", f"at most {DEEPEST} inside each other")
            return None
        found: object = None
        match value:
            case str():
                found = self.text(value, where, is_bare=False)
            case _Bare(text=text):
                found = self.text(text, where, is_bare=True)
            case dict():
                table: dict[object, object] = {}
                for key, item in value.items():
                    path = f"{where}.{shown(key)[1:-1]}"
                    name = self.text(key, path, is_bare=False)
                    table[name] = self.read(item, path, depth + 1)
                found = table
            case list():
                found = [
                    self.read(item, f"{where}[{index}]", depth + 1)
                    for index, item in enumerate(value)
                ]
            case datetime() if value.tzinfo is not None:
                found = value.isoformat()  # as google.protobuf.Timestamp has it
            case None | bool() | int() | float():
                found = value
            case _:
                self.mistakes.add(where, shown(value), "a text, a number, true, false or a table")
        return found


def read_message(
    value: object, where: str, feeds: Sequence[Feed], mistakes: Mistakes
) -> object | None:
    """A message of tables, lists, constants and sources, from a table or a JSON text."""
    if isinstance(value, str):
        text = value
        value = mistakes.attempt(where, value, lambda: parse_json(text))
        if value is None:
            return None
    compiler = loading_compiler(where, feeds)
    found = _Reader(compiler, mistakes).read(value, where, 0)
    compiler.where = where
    compiler.refuse_excess()
    mistakes.found.extend(compiler.mistakes)
    return found


def varies(value: object) -> bool:
    """True when there is a source anywhere in it."""
    match value:
        case Source():
            return True
        case dict():
            return any(varies(key) or varies(item) for key, item in value.items())
        case list():
            return any(map(varies, value))
        case _:
            return False
