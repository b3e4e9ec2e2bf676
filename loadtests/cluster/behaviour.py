"""Test behaviours of a node: how it misbehaves on purpose, and when.

Owns the value types, their one text form (`latency=exponential:5ms,errors=0.01:503`) and the
`Gate` that turns them into decisions. Pure: the time comes in as an argument and random draws
come from a seed, so that the same requests in the same order meet the same fate. Latency, errors
and the rate limit strike the service (`/api/`, and gRPC save health and reflection); a stall
strikes everything; slow accept REST alone, for grpcio accepts by itself. Types, text form and
decisions are one subject, hence one module.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from loadtests.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from loadtests.errors import Mistake, ScenarioError

MAX_LATENCY_NS: Final = 600 * NS_PER_S
ERROR_STATUSES: Final = (429, 500, 503)
_UNITS_NS: Final = {"us": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")


class Shape(Enum):
    """Distribution of the added latency; the parameters that follow it in the text form."""

    FIXED = "fixed"  # fixed:VALUE
    EXPONENTIAL = "exponential"  # exponential:MEAN
    LOGNORMAL = "lognormal"  # lognormal:MEDIAN:SIGMA
    UNIFORM = "uniform"  # uniform:LOW:HIGH
    TWO_POINT = "two-point"  # two-point:USUAL:RARE:RATIO_OF_RARE


_PARAMETERS: Final = {
    Shape.FIXED: "VALUE",
    Shape.EXPONENTIAL: "MEAN",
    Shape.LOGNORMAL: "MEDIAN:SIGMA",
    Shape.UNIFORM: "LOW:HIGH",
    Shape.TWO_POINT: "USUAL:RARE:RATIO_OF_RARE",
}
_DURATIONS_FIRST: Final = {
    Shape.FIXED: 1,
    Shape.EXPONENTIAL: 1,
    Shape.LOGNORMAL: 1,
    Shape.UNIFORM: 2,
    Shape.TWO_POINT: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Added latency. `first_ns` and `second_ns` are the durations, `number` sigma or ratio."""

    shape: Shape
    first_ns: int
    second_ns: int
    number: float

    def draw_ns(self, source: random.Random) -> int:
        """One added latency in ns, 0..MAX_LATENCY_NS."""
        match self.shape:
            case Shape.FIXED:
                drawn_ns: float = self.first_ns
            case Shape.EXPONENTIAL:
                drawn_ns = source.expovariate(1.0) * self.first_ns
            case Shape.LOGNORMAL:
                drawn_ns = self.first_ns * math.exp(source.gauss(0.0, self.number))
            case Shape.UNIFORM:
                drawn_ns = source.uniform(self.first_ns, self.second_ns)
            case Shape.TWO_POINT:
                drawn_ns = self.second_ns if source.random() < self.number else self.first_ns
        return min(int(drawn_ns), MAX_LATENCY_NS)

    def __str__(self) -> str:
        parts = [self.shape.value, _duration(self.first_ns)]
        if _DURATIONS_FIRST[self.shape] > 1:
            parts.append(_duration(self.second_ns))
        if self.shape in (Shape.LOGNORMAL, Shape.TWO_POINT):
            parts.append(repr(self.number))
        return ":".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """No answer leaves during [at, at + for) after the node's first service request.

    With `every_ns` above 0 the stall comes back with that period (start to start).
    Answers that fall into a stall leave together at its end.
    """

    at_ns: int
    for_ns: int
    every_ns: int

    def end_ns(self, since_first_ns: int) -> int:
        """When an answer due at `since_first_ns` may leave; the same time outside a stall."""
        into_ns = since_first_ns - self.at_ns
        if into_ns < 0:
            return since_first_ns
        if self.every_ns:
            into_ns %= self.every_ns
        return since_first_ns + max(0, self.for_ns - into_ns)

    def __str__(self) -> str:
        text = f"{_duration(self.at_ns)}:{_duration(self.for_ns)}"
        return f"{text}:{_duration(self.every_ns)}" if self.every_ns else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one node does to its requests; `PLAIN` does nothing.

    `error_ratio` 0..1 of requests get `error_status` and are not executed. `max_rate_per_s`
    above 0 is a token bucket (burst: a tenth of a second) that answers 429. For gRPC 429 is
    RESOURCE_EXHAUSTED, 500 INTERNAL and 503 UNAVAILABLE.
    `accept_gap_ns` above 0 lets in one connection per gap, in order. Latency and errors begin
    `from_ns` after the first service request: as of a version that goes bad with time.
    """

    latency: Latency | None
    error_ratio: float
    error_status: int
    stall: Stall | None
    accept_gap_ns: int
    max_rate_per_s: float
    seed: int
    from_ns: int

    def __str__(self) -> str:
        parts = [f"latency={self.latency}"] if self.latency else []
        if self.error_ratio:
            parts.append(f"errors={self.error_ratio!r}:{self.error_status}")
        if self.stall:
            parts.append(f"stall={self.stall}")
        if self.accept_gap_ns:
            parts.append(f"slow-accept={_duration(self.accept_gap_ns)}")
        if self.max_rate_per_s:
            parts.append(f"max-rate={self.max_rate_per_s!r}")
        if self.seed:
            parts.append(f"seed={self.seed}")
        if self.from_ns:
            parts.append(f"from={_duration(self.from_ns)}")
        return ",".join(parts)

    def changes_answers(self) -> bool:
        """Whether any answer can differ, in time or content, from a plain node's."""
        return bool(self.latency or self.error_ratio or self.stall or self.max_rate_per_s)


PLAIN: Final = Behaviour(
    latency=None,
    error_ratio=0.0,
    error_status=503,
    stall=None,
    accept_gap_ns=0,
    max_rate_per_s=0.0,
    seed=0,
    from_ns=0,
)


class Gate:
    """One node's decisions: which request is refused, and when each answer may leave."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._source = random.Random(behaviour.seed)  # noqa: S311 reproducible draws, no secret
        self._first_ns: int | None = None
        self._burst = max(1.0, behaviour.max_rate_per_s / 10)
        self._tokens = self._burst
        self._filled_ns = 0

    def refuse_status(self, now_ns: int) -> int | None:
        """Status to refuse the service request of `now_ns` with, or None to execute it."""
        if self._first_ns is None:
            self._first_ns = self._filled_ns = now_ns
        behaviour = self._behaviour
        if behaviour.max_rate_per_s and not self._take_token(now_ns):
            return 429
        if not self._has_begun(now_ns):
            return None
        if behaviour.error_ratio and self._source.random() < behaviour.error_ratio:
            return behaviour.error_status
        return None

    def _has_begun(self, now_ns: int) -> bool:
        """Whether latency and errors strike by now."""
        return self._first_ns is not None and now_ns >= self._first_ns + self._behaviour.from_ns

    def _take_token(self, now_ns: int) -> bool:
        gained = (now_ns - self._filled_ns) * self._behaviour.max_rate_per_s / NS_PER_S
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def leave_ns(self, ready_ns: int, *, service: bool) -> int:
        """When an answer ready at `ready_ns` may leave; draws a latency for service paths."""
        leave_ns = ready_ns
        is_late = service and (not self._behaviour.from_ns or self._has_begun(ready_ns))
        if is_late and self._behaviour.latency:
            leave_ns += self._behaviour.latency.draw_ns(self._source)
        if self._behaviour.stall and self._first_ns is not None:
            leave_ns = self._first_ns + self._behaviour.stall.end_ns(leave_ns - self._first_ns)
        return leave_ns


def parse_behaviour(text: str) -> Behaviour:
    """The behaviour written as `key=value,…`; an empty text is `PLAIN`.

    Keys: latency, errors, stall, slow-accept, max-rate, seed, from. Raises ScenarioError with
    every mistake of the text at once.
    """
    behaviour, mistakes = PLAIN, []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, value = part.partition("=")
        try:
            behaviour = _apply(behaviour, key, value)
        except _WrongValueError as wrong:
            mistakes.append(Mistake(where=key or part, seen=repr(value), expected=str(wrong)))
    if mistakes:
        raise ScenarioError(f"behaviour {text!r}", tuple(mistakes))
    return behaviour


class _WrongValueError(Exception):
    """The text says something else than its expectation, which is the message."""


def _apply(behaviour: Behaviour, key: str, value: str) -> Behaviour:
    match key:
        case "latency":
            made = replace(behaviour, latency=_latency(value))
        case "errors":
            return _with_errors(behaviour, value)
        case "stall":
            made = replace(behaviour, stall=_stall(value))
        case "slow-accept":
            made = replace(behaviour, accept_gap_ns=_duration_ns(value))
        case "max-rate":
            made = replace(behaviour, max_rate_per_s=_number(value, low=0.001, high=1e9))
        case "seed":
            if not value.isdecimal():
                raise _WrongValueError("a whole number from 0")
            made = replace(behaviour, seed=int(value))
        case "from":
            made = replace(behaviour, from_ns=_duration_ns(value))
        case _:
            raise _WrongValueError(
                "a key of latency, errors, stall, slow-accept, max-rate, seed, from"
            )
    return made


def _latency(value: str) -> Latency:
    name, *rest = value.split(":")
    shape = next((shape for shape in Shape if shape.value == name), None)
    if shape is None:
        raise _WrongValueError("one of " + ", ".join(shape.value for shape in Shape))
    if len(rest) != len(_PARAMETERS[shape].split(":")):
        raise _WrongValueError(f"{name}:{_PARAMETERS[shape]}")
    durations = [_duration_ns(text) for text in rest[: _DURATIONS_FIRST[shape]]]
    numbers = rest[_DURATIONS_FIRST[shape] :]
    high = 1.0 if shape is Shape.TWO_POINT else 10.0
    second_ns = durations[1] if len(durations) > 1 else 0
    if shape is Shape.UNIFORM and second_ns < durations[0]:
        raise _WrongValueError("uniform:LOW:HIGH with LOW <= HIGH")
    number = _number(numbers[0], low=0.0, high=high) if numbers else 0.0
    return Latency(shape=shape, first_ns=durations[0], second_ns=second_ns, number=number)


def _with_errors(behaviour: Behaviour, value: str) -> Behaviour:
    ratio, _, status = value.partition(":")
    if status and status not in map(str, ERROR_STATUSES):
        raise _WrongValueError(f"RATIO:STATUS with a status of {ERROR_STATUSES}")
    return replace(
        behaviour,
        error_ratio=_number(ratio, low=0.0, high=1.0),
        error_status=int(status or PLAIN.error_status),
    )


def _stall(value: str) -> Stall:
    parts = value.split(":")
    if len(parts) not in (2, 3):
        raise _WrongValueError("AT:FOR or AT:FOR:EVERY, such as 2s:1s:10s")
    at_ns, for_ns, every_ns = [*map(_duration_ns, parts), 0][:3]
    if every_ns and for_ns >= every_ns:
        raise _WrongValueError("FOR shorter than EVERY")
    return Stall(at_ns=at_ns, for_ns=for_ns, every_ns=every_ns)


def _duration_ns(text: str) -> int:
    match = _DURATION.fullmatch(text)
    duration_ns = round(float(match[1]) * _UNITS_NS[match[2]]) if match else -1
    if not 0 <= duration_ns <= MAX_LATENCY_NS:
        raise _WrongValueError("durations such as 250us, 5ms, 1.5s, at most 600s")
    return duration_ns


def _number(text: str, *, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise _WrongValueError(f"a number in [{low:g}, {high:g}]")
    return number


def _duration(value_ns: int) -> str:
    for unit in ("s", "ms", "us"):
        if value_ns and value_ns % _UNITS_NS[unit] == 0:
            return f"{value_ns // _UNITS_NS[unit]}{unit}"
    return f"{value_ns / NS_PER_US:.3f}us"
