"""How many engines a plan takes, at what a request of each kind costs the generator here.

    cores = lambda * sum over kinds (part of the requests * CPU seconds of one)

Costs are as calibrated on a host like these, and only for the kinds that calibration
measures: a cost of one protocol says nothing about another one (an HTTP/1.1 request and a
call among many streams differ by a factor), so an unknown one is said and not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.plan.call import CallShape, Protocol
from loadtests.plan.model import LoadModel, Plan, Request
from loadtests.plan.needs import Finding, Severity, finding

BUSY_RATIO: Final = 0.9  # engine CPU above which a run is generator-limited (measurement.md)


class RequestKind(Enum):
    """Requests that cost alike."""

    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    UNARY = "gRPC"
    STREAMING = "streaming gRPC"


CALIBRATED: Final = frozenset({RequestKind.HTTP1, RequestKind.UNARY})  # by `headroom calibrate`


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorCosts:
    """CPU time of the generator per request by kind, and what they rest on."""

    request_ns: Mapping[RequestKind, float]
    basis: str  # the day of the calibration, "2026-11-26", and what engines ran on then


def kind_of(request: Request) -> RequestKind:
    """Which requests this one costs as much as."""
    if request.call is not None:
        is_unary = request.call.shape is CallShape.UNARY
        return RequestKind.UNARY if is_unary else RequestKind.STREAMING
    return RequestKind.HTTP1 if request.protocol is Protocol.HTTP1 else RequestKind.HTTP2


def parts_of(plan: Plan) -> dict[RequestKind, float]:
    """Part of the requests (0-1) of each kind in the plan."""
    total = sum(request.weight for request in plan.requests)
    parts = dict.fromkeys((k for k in RequestKind if k in map(kind_of, plan.requests)), 0.0)
    for request in plan.requests:
        parts[kind_of(request)] += request.weight / total
    return parts


def _unknown(kinds: list[RequestKind]) -> Finding:
    def names(chosen: list[RequestKind]) -> str:
        return " and ".join(kind.value for kind in chosen)

    missing = [kind for kind in kinds if kind in CALIBRATED]
    advice = [f"headroom calibrate measures {names(missing)}"] if missing else []
    if others := [kind for kind in kinds if kind not in CALIBRATED]:
        advice.append(f"there is no calibration for {names(others)}")
    return finding(
        Severity.WARNING,
        f"the cost of a request over {names(kinds)} is not known here, nor how many engines the "
        f"plan takes: {'; '.join(advice)}",
    )


def _costs_text(parts: Mapping[RequestKind, float], costs: GeneratorCosts) -> str:
    if len(parts) == 1:
        ((kind, _),) = parts.items()
        each = f"at {costs.request_ns[kind] / 1000:.1f} us each"
        return f"{each} (calibrated here for {kind.value} on {costs.basis})"
    shares = ", ".join(
        f"{part:.0%} {kind.value} at {costs.request_ns[kind] / 1000:.1f} us"
        for kind, part in parts.items()
    )
    return f"({shares}: calibrated here on {costs.basis})"


def _engines(count: int) -> str:
    return "1 engine" if count == 1 else f"{count:,} engines"


def engines_for(per_s: float, request_ns: float) -> int:
    """Engines that stay below `BUSY_RATIO` of a core each at this rate."""
    return max(1, math.ceil(per_s * request_ns / NS_PER_S / BUSY_RATIO))


def _without_rate(text: str, request_ns: float, at_hand: int) -> Finding:
    """Closed load whose rate only the target's answers decide."""
    each_per_s = BUSY_RATIO * NS_PER_S / request_ns
    return finding(
        Severity.INFO,
        f"closed load plans no rate; requests {text} let one engine make at most "
        f"{each_per_s:,.0f}/s below {BUSY_RATIO:.0%} of a core, {_engines(at_hand)} "
        f"{each_per_s * at_hand:,.0f}/s",
        engines_available=at_hand,
        highest_per_s=each_per_s * at_hand,
    )


def highest_per_s(
    plan: Plan, costs: GeneratorCosts | None, *, cores: int, engines: int
) -> float | None:
    """The rate at which the engines would be at `BUSY_RATIO`; None where costs are not known."""
    parts = parts_of(plan)
    if costs is None or any(kind not in costs.request_ns for kind in parts):
        return None
    request_ns = sum(part * costs.request_ns[kind] for kind, part in parts.items())
    return BUSY_RATIO * NS_PER_S / request_ns * min(engines, cores)


def judge_engines(
    plan: Plan, peak_per_s: float | None, costs: GeneratorCosts | None, *, cores: int, engines: int
) -> tuple[int | None, list[Finding]]:
    """Engines needed at the measured costs, None where that is not known, and what it means.

    `cores` of all hosts, `engines` in all; `peak_per_s` None: no rate is known.
    """
    parts = parts_of(plan)
    known: Mapping[RequestKind, float] = costs.request_ns if costs is not None else {}
    unknown = [kind for kind in parts if kind not in known]
    if costs is None or unknown:
        return None, [_unknown(unknown)]
    request_ns = sum(part * known[kind] for kind, part in parts.items())
    text, at_hand = _costs_text(parts, costs), min(engines, cores)
    if peak_per_s is None:
        return None, [_without_rate(text, request_ns, at_hand)]
    needed = engines_for(peak_per_s, request_ns)
    closed = " when answers take their limit" if plan.load_model is LoadModel.CLOSED else ""
    text = (
        f"{peak_per_s:,.0f} requests/s{closed} {text} take {_engines(needed)} below "
        f"{BUSY_RATIO:.0%} of a core; there {'is' if at_hand == 1 else 'are'} {at_hand:,}: "
        f"{_engines(engines)} planned on {cores} cores, at most one a core"
        + (" and one core left for master and target" if engines < cores else "")
    )
    severity = Severity.REFUSAL if needed > at_hand else Severity.INFO
    return needed, [finding(severity, text, engines_needed=needed, engines_available=at_hand)]
