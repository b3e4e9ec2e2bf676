"""What Headroom claims of gRPC, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.claim import Claim, lag_claims, missing, ratio_text
from benchmarks.cost import CostSample, ratios_to, undisturbed_ratio
from benchmarks.grpc_part import USUAL, GrpcFigures
from benchmarks.million import MILLION, MillionSample
from benchmarks.results import GrpcPart
from benchmarks.saturation import OPEN_LEVELS

_SHAPE_LIMITS = ((USUAL, 0.9), ("8x1", 1.3), ("64x1", 1.3))
_PEER_LIMITS = (("aio", "grpc.aio on uvloop", 20.0), ("gevent", "grpcio with gevent", 40.0))
_OPEN_LIMIT = 1.6
_RATE_LIMIT_PER_S = 120_000.0
_FULL_RATIO = 0.95  # of a core: who uses less is not the limit
_FLAT_BYTES = 1 << 20
_COUNT_RATIO = 0.002  # nghttpd's count is of bytes, and answers vary by some
_SERVERS = ("nghttpd", "grpc-go")


def grpc_claims(part: GrpcPart | None) -> tuple[Claim, ...]:
    """All claims of the part, in the issue's order."""
    why = "-" if part is None else "quick run" if part.stamp.is_quick else ""
    figures = None if part is None or why else part.figures
    return (
        *_against_h2load(figures, why),
        *_against_python(figures, why),
        *(_open_claim(key, level, figures, why) for key, level in OPEN_LEVELS.items()),
        _rate_claim(figures, why),
        *lag_claims("gRPC: send lag", figures.lag if figures else (), why),
        _million_claim(figures.million if figures else None, why),
    )


def _at_most(
    text: str, limit: float, samples: Sequence[CostSample], key: str, reference: str
) -> Claim:
    ratio = undisturbed_ratio(samples, key, reference)
    measured = ratio_text(ratio, ratios_to(samples, key, reference))
    return Claim(text=text, limit=f"<= {limit}", measured=measured, is_met=ratio <= limit)


def _against_h2load(figures: GrpcFigures | None, why: str) -> list[Claim]:
    claims = []
    for server in _SERVERS:
        samples: Sequence[CostSample] = ()
        if figures is not None:
            samples = figures.nghttpd if server == "nghttpd" else figures.grpc_go
        for shape, limit in _SHAPE_LIMITS:
            text = f"gRPC: CPU per request against h2load's, {shape}, {server}"
            if samples:
                claims.append(_at_most(text, limit, samples, shape, f"h2load {shape}"))
            else:
                claims.append(missing(text, f"<= {limit}", why or "the server was not built"))
    return claims


def _against_python(figures: GrpcFigures | None, why: str) -> list[Claim]:
    claims = []
    for key, name, limit in _PEER_LIMITS:
        text = f"gRPC: CPU per request of {name} against Headroom's, {USUAL}"
        if figures is None:
            claims.append(missing(text, f">= {limit}", why))
            continue
        ratio = undisturbed_ratio(figures.nghttpd, key, USUAL)
        measured = ratio_text(ratio, ratios_to(figures.nghttpd, key, USUAL))
        claims.append(
            Claim(text=text, limit=f">= {limit}", measured=measured, is_met=ratio >= limit)
        )
    return claims


def _open_claim(key: str, level: float, figures: GrpcFigures | None, why: str) -> Claim:
    text = f"gRPC: open load of unique transactions at {level:.0%} of saturation"
    text = f"{text}, against closed, {USUAL}"
    if figures is None or all(s.key != key for s in figures.nghttpd):
        return missing(text, f"<= {_OPEN_LIMIT}", why or "not run at this level")
    return _at_most(text, _OPEN_LIMIT, figures.nghttpd, key, USUAL)


def _rate_claim(figures: GrpcFigures | None, why: str) -> Claim:
    """Judged where the engine was the limit: a server that is full says nothing of it."""
    text = f"gRPC: unary requests/s of one engine on one core, {USUAL}, nghttpd"
    limit = f">= {_RATE_LIMIT_PER_S:,.0f} while the server keeps up"
    if figures is None:
        return missing(text, limit, why)
    samples = [s for s in figures.nghttpd if s.key == USUAL]
    best = max(samples, key=lambda s: s.rate_per_s)
    mine = median(s.utilisation_ratio for s in samples)
    servers = median(s.server_utilisation_ratio for s in samples)
    kept_up = mine >= _FULL_RATIO or servers < _FULL_RATIO
    is_met = best.rate_per_s >= _RATE_LIMIT_PER_S
    return Claim(
        text=text,
        limit=limit,
        measured=(
            f"{best.rate_per_s:,.0f} in the best round, median"
            f" {median(s.rate_per_s for s in samples):,.0f}; engine's core {mine:.0%},"
            f" server's {servers:.0%}"
        ),
        is_met=True if is_met else False if kept_up else None,
    )


def _million_claim(sample: MillionSample | None, why: str) -> Claim:
    text = f"gRPC: {MILLION:,} requests, all accounted, memory flat"
    limit = f"all ok, server's count within {_COUNT_RATIO:.1%}, growth <= 1 MiB"
    if sample is None or sample.wanted < MILLION:
        return missing(text, limit, why or "fewer requests")
    return Claim(
        text=text,
        limit=limit,
        measured=(
            f"{sample.ok:,} ok of {sample.planned:,}, server {sample.server_count:,},"
            f" {sample.growth_bytes / (1 << 20):+.2f} MiB"
        ),
        is_met=sample.is_accounted
        and sample.server_difference_ratio <= _COUNT_RATIO
        and sample.growth_bytes <= _FLAT_BYTES,
    )
