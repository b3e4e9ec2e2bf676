"""Calls of a scenario: a gRPC method with its message, metadata, checks and streams.

Refused are metadata that HTTP/2 or gRPC own, a literal secret, a stream's keys on a call
that sends one message, and everything that the method's own types do not know. Metadata
whose name ends in `-bin` is base64, as it travels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from loadtests.plan.authored import read_message
from loadtests.plan.call import CODES, Call, CallShape, FieldEquals, Part, Protocol
from loadtests.plan.model import Feed, Request
from loadtests.plan.parts import MessageWriter, folded
from loadtests.plan.requests import CONNECTION_HEADERS, ENGINE_HEADERS, check_secret
from loadtests.plan.response import compile_check, parse_check
from loadtests.plan.scalars import check_base64
from loadtests.plan.schema import Schema
from loadtests.plan.spec import CallSpec
from loadtests.plan.template import loading_compiler, texts_of
from loadtests.plan.units import UnitError, format_duration
from loadtests.plan.values import Mistakes, shown

RESERVED: Final = ENGINE_HEADERS | CONNECTION_HEADERS | {"content-type"}
_NAME: Final = re.compile(r"[0-9a-z_.-]+")  # "gRPC over HTTP2", Custom-Metadata
_VALUE: Final = re.compile(rb"([!-~]([ -~]*[!-~])?)?")  # ASCII-Value, no space at its ends
_SHAPES: Final = {
    (False, False): CallShape.UNARY,
    (False, True): CallShape.SERVER_STREAM,
    (True, False): CallShape.CLIENT_STREAM,
    (True, True): CallShape.BIDIRECTIONAL,
}


def _check_metadata(
    name: str, value: str, where: str, feeds: Sequence[Feed], mistakes: Mistakes
) -> None:
    source = value.encode()
    if name.startswith((":", "grpc-")) or name in RESERVED:
        mistakes.add(where, "metadata that the engine sets", "any other name")
    elif _NAME.fullmatch(name) is None:
        mistakes.add(where, shown(name), "a name of small letters, digits, '.', '_' and '-'")
    check_secret(name, source, where, feeds, mistakes)
    compiler = loading_compiler(where, feeds)
    pieces = compiler.pieces(source)
    compiler.refuse_excess()
    mistakes.found.extend(compiler.mistakes)
    if compiler.mistakes:
        return
    if name.endswith("-bin"):
        mistakes.attempt(where, value, lambda: check_base64(pieces))
    elif any(_VALUE.fullmatch(text) is None for text in (source, *texts_of(source, feeds))):
        mistakes.add(where, "another character", "visible ASCII (a name in -bin takes base64)")


class _Builder:
    """One call of one request, checked against the types of its method."""

    def __init__(
        self, spec: CallSpec, where: str, schema: Schema, feeds: Sequence[Feed], mistakes: Mistakes
    ) -> None:
        self.spec, self.where, self.schema = spec, where, schema
        self.feeds, self.mistakes = feeds, mistakes

    def call(self, text: str | None) -> Call | None:
        """The call with everything wrong in it noted; None when there is no such method."""
        spec = self.spec
        place = f"{self.where}.method"
        method = self.mistakes.attempt(place, spec.method, lambda: self.schema.method(spec.method))
        if method is None:
            return None
        shape = _SHAPES[method.client_streaming, method.server_streaming]
        self._check_stream(shape)
        return Call(
            method=spec.method,
            shape=shape,
            message=self._message(method, text),
            messages=spec.messages or 1,
            pace_ns=spec.pace or 0,
            compression=spec.compression,
            expected_codes=tuple(
                sorted({CODES.index(name) for name in spec.expected_codes if name in CODES})
            ),
            checks=self._checks(method),
            response_type=method.output_type.full_name,
        )

    def _message(self, method: MethodDescriptor, text: str | None) -> tuple[Part, ...]:
        given: object = self.spec.message
        place = f"{self.where}.message"
        if self.spec.message_file is not None:
            if given is not None:
                self.mistakes.add(self.where, "message and message_file", "one of them")
            if text is None:
                return ()  # the file could not be read, and that is noted
            given, place = text, f"{self.where}.message_file"
        before = len(self.mistakes.found)
        value = read_message({} if given is None else given, place, self.feeds, self.mistakes)
        if value is None and len(self.mistakes.found) > before:
            return ()
        writer = MessageWriter(self.schema.pool, self.mistakes)
        return folded(writer.message(method.input_type, value, place))

    def _checks(self, method: MethodDescriptor) -> tuple[FieldEquals, ...]:
        found = []
        for index, text in enumerate(self.spec.checks):
            try:
                check = parse_check(text)
                compile_check(method.output_type, check)
            except UnitError as error:
                self.mistakes.add(f"{self.where}.checks[{index}]", shown(text), error.expected)
                continue
            found.append(check)
        return tuple(found)

    def _check_stream(self, shape: CallShape) -> None:
        spec = self.spec
        sends_stream = shape in {CallShape.CLIENT_STREAM, CallShape.BIDIRECTIONAL}
        for key, value in (("messages", spec.messages), ("pace", spec.pace)):
            if value is not None and not sends_stream:
                expected = f"nothing: {spec.method} is {shape.value}, one message is sent"
                self.mistakes.add(f"{self.where}.{key}", "a value", expected)
        length_ns = ((spec.messages or 1) - 1) * (spec.pace or 0)
        if sends_stream and length_ns >= spec.timeout:
            expected = f"more than the {format_duration(length_ns)} that the messages take"
            self.mistakes.add(f"{self.where}.timeout", format_duration(spec.timeout), expected)


def build_call(
    spec: CallSpec,
    text: str | None,
    where: str,
    *,
    schema: Schema | None,
    feeds: Sequence[Feed],
    mistakes: Mistakes,
) -> Request:
    """The request with everything wrong in it noted; `text` is the read message file, if any.

    Without a schema, which is a mistake that is known, types are not checked.
    """
    for name, value in spec.metadata.items():
        path = f"{where}.metadata.{shown(name)[1:-1]}"
        _check_metadata(name, value, path, feeds, mistakes)
    if not spec.expected_codes:
        mistakes.add(f"{where}.expected_codes", "none", "at least one gRPC status code")
    call = None
    if schema is not None:
        call = _Builder(spec, where, schema, feeds, mistakes).call(text)
    return Request(
        name=spec.name,
        method="POST",
        path=f"/{spec.method}",
        headers=tuple(spec.metadata.items()),
        body=None,
        weight=spec.weight,
        expected_statuses=(),
        checks=(),
        timeout_ns=spec.timeout,
        protocol=Protocol.GRPC,
        call=call,
    )
