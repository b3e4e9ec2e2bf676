"""What the paths of a node have in common: routes, replies in JSON, query parameters.

Owns the shape of a route and the two ways to reply. A handler returns its answer, or None
when the answer comes later through `Replies.finish`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

import msgspec

from loadtests.clock import NS_PER_MS
from loadtests.cluster.http1 import Exchange
from loadtests.cluster.metrics import Metrics
from loadtests.cluster.wire import Answer, Series, build_answer, build_error

API: Final = "/api/v11"
_MAX_DIGITS: Final = 18  # of a number that fits into 64 bits

encode = msgspec.json.Encoder().encode
Handler = Callable[[Exchange, bytes], Answer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One uri template. A handler gets the exchange and the rest of the path or the query."""

    uri: str
    methods: Mapping[bytes, Handler]
    hot: bool


class BadRequestError(Exception):
    """The request is well-formed HTTP and asks for something that cannot be; answered 400."""


class Replies:
    """Builds replies and counts them under their uri template."""

    def __init__(self, metrics: Metrics, finish: Callable[[Exchange, Answer], None]) -> None:
        self._metrics = metrics
        self.finish = finish

    def series(self, method: bytes, uri: str, status: int) -> Series:
        """Where an answer is counted."""
        return self._metrics.series(method.decode("ascii") or "UNKNOWN", uri, status)

    def ok(self, exchange: Exchange, uri: str, body: object, status: int = 200) -> Answer:
        """A reply in JSON."""
        return build_answer(self.series(exchange.method, uri, status), encode(body))

    def error(self, method: bytes, uri: str, status: int, message: str) -> Answer:
        """A refusal in JSON; one that may pass says when to come again."""
        headers = b"Retry-After: 1\r\n" if status in (429, 503) else b""
        return build_error(self.series(method, uri, status), message, headers=headers)

    def not_allowed(self, method: bytes, route: Route) -> Answer:
        """405 with the methods that the route takes (RFC 9110 15.5.6)."""
        allowed = b", ".join([*route.methods, *([b"HEAD"] if b"GET" in route.methods else [])])
        message = f"{route.uri} takes {allowed.decode()}"
        series = self.series(method, route.uri, 405)
        return build_error(series, message, headers=b"Allow: %b\r\n" % allowed)


def parse_whole_number(text: str) -> int | None:
    """The number that only digits stand for, up to 18 of them; else None."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def parse_parameter(query: bytes, name: str, *, usual: int, low: int, high: int) -> int:
    """A query parameter as a number in [low, high]; `usual` if absent; BadRequestError else."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name)
    if values is None:
        return usual
    number = parse_whole_number(values[-1])
    if number is None or not low <= number <= high:
        raise BadRequestError(f"{name} must be a whole number in [{low}, {high}]")
    return number


def now_ms() -> int:
    """UTC in milliseconds, as a label."""
    return time.time_ns() // NS_PER_MS
