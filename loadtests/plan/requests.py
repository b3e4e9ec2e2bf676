"""Requests of a scenario: what HTTP allows, what placeholders may bring in, what is secret.

Refused are header names that the engine owns, text that would break the request line or
a header, and a literal secret: an Authorization header must take its value from
`${env:NAME}`, so that a scenario, a plan and an archive never hold it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from loadtests.plan.call import Protocol
from loadtests.plan.model import BodyContains, Check, Feed, JsonEquals, MaxBytes, Request
from loadtests.plan.spec import CheckSpec, RequestSpec
from loadtests.plan.template import mistakes_of, texts_of, variables_of
from loadtests.plan.values import Mistakes, shown

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ENGINE_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"}
)
# Also refused in HTTP/2, which has no place for them (RFC 9113 section 8.2.2).
CONNECTION_HEADERS: Final = frozenset({"keep-alive", "proxy-connection"})
SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"}
)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_TARGET: Final = re.compile(rb"[!\"$-~]*")  # visible ASCII without '#', RFC 9112 section 3.2
_FIELD: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_POINTER: Final = re.compile(r"(/([^~/]|~[01])*)*")  # RFC 6901 section 3


def _check_path(path: str, where: str, feeds: Sequence[Feed], mistakes: Mistakes) -> None:
    source = path.encode()
    mistakes.found.extend(mistakes_of(source, where, feeds))
    if not path.startswith("/") or _TARGET.fullmatch(source) is None:
        mistakes.add(where, shown(path), 'a path from "/" on, of visible ASCII without "#"')
    for text in texts_of(source, feeds):
        if _TARGET.fullmatch(text) is None:
            mistakes.add(
                where, shown(text.decode()), "only visible ASCII in values that a path takes"
            )
            return


def check_secret(
    name: str, source: bytes, where: str, feeds: Sequence[Feed], mistakes: Mistakes
) -> None:
    """Refuse a literal value of a header that holds secrets."""
    if name.lower() in SECRET_HEADERS and not variables_of(source, feeds):
        # The value is not repeated: a message must not spread it.
        mistakes.add(where, "a literal secret", 'a variable, such as "Bearer ${env:TOKEN}"')


def _check_header(
    name: str, value: str, where: str, feeds: Sequence[Feed], mistakes: Mistakes
) -> None:
    source, lowered = value.encode(), name.lower()
    mistakes.found.extend(mistakes_of(source, where, feeds))
    if _TOKEN.fullmatch(name) is None:
        mistakes.add(where, shown(name), "a header name (RFC 9110 token)")
    if lowered in ENGINE_HEADERS:
        mistakes.add(where, "a header that the engine sets", "any other header")
    check_secret(name, source, where, feeds, mistakes)
    if any(_FIELD.fullmatch(text) is None for text in (source, *texts_of(source, feeds))):
        mistakes.add(where, "a control character", "a header value without control characters")


def _build_check(spec: CheckSpec, where: str, mistakes: Mistakes) -> Check | None:
    given = [spec.contains is not None, spec.pointer is not None, spec.max_bytes is not None]
    if sum(given) != 1 or (spec.pointer is None) != (spec.equals is None):
        mistakes.add(
            where, "another set of keys", "exactly one of: contains; pointer and equals; max_bytes"
        )
        return None
    if spec.contains is not None:
        return BodyContains(text=spec.contains)
    if spec.max_bytes is not None:
        return MaxBytes(size_bytes=spec.max_bytes)
    pointer = spec.pointer or ""
    if _POINTER.fullmatch(pointer) is None:
        mistakes.add(f"{where}.pointer", shown(pointer), 'an RFC 6901 pointer, such as "/status"')
    return JsonEquals(pointer=pointer, value=spec.equals)


def _check_head(
    spec: RequestSpec,
    protocol: Protocol,
    where: str,
    feeds: Sequence[Feed],
    mistakes: Mistakes,
) -> None:
    if spec.method not in METHODS:
        mistakes.add(f"{where}.method", shown(spec.method), "one of " + ", ".join(METHODS))
    _check_path(spec.path, f"{where}.path", feeds, mistakes)
    names = [name.lower() for name in spec.headers]
    for name, value in spec.headers.items():
        path = f"{where}.headers.{shown(name)[1:-1]}"
        _check_header(name, value, path, feeds, mistakes)
        if names.count(name.lower()) > 1:
            mistakes.add(path, "a header given twice", "each header once, whatever its case")
        if protocol is Protocol.HTTP2 and name.lower() in CONNECTION_HEADERS:
            mistakes.add(path, "a header of HTTP/1.1 connections", "nothing: this is HTTP/2")


def build_request(
    spec: RequestSpec,
    body: bytes | None,
    where: str,
    *,
    protocol: Protocol,
    feeds: Sequence[Feed],
    mistakes: Mistakes,
) -> Request:
    """The request with everything wrong in it noted; `body` is the read body file, if any."""
    _check_head(spec, protocol, where, feeds, mistakes)
    if spec.body is not None and spec.body_file is not None:
        mistakes.add(where, "body and body_file", "one of them")
    if spec.body is not None:
        body = spec.body.encode()
    if body is not None:
        key = "body" if spec.body is not None else "body_file"
        mistakes.found.extend(mistakes_of(body, f"{where}.{key}", feeds))
    checks = [
        _build_check(check, f"{where}.checks[{index}]", mistakes)
        for index, check in enumerate(spec.checks)
    ]
    return Request(
        name=spec.name,
        method=spec.method,
        path=spec.path,
        headers=tuple(spec.headers.items()),
        body=body,
        weight=spec.weight,
        expected_statuses=tuple(sorted(set(spec.expected_statuses))),
        checks=tuple(check for check in checks if check is not None),
        timeout_ns=spec.timeout,
        protocol=protocol,
        call=None,
    )
