"""The figures that Headroom claims, each held against what was measured.

A claim is met, not met, or not measured; a part that was run with `--quick`, or shorter
than the claim demands, measures no claim.
"""

from __future__ import annotations

from statistics import median

from benchmarks.bins import BINS, PLAIN, BinsFigures
from benchmarks.claim import Claim, lag_claims, missing, ratio_text
from benchmarks.cost import ratios_to, undisturbed_ratio
from benchmarks.grpc_claims import grpc_claims
from benchmarks.results import Results
from benchmarks.saturation import OPEN_LEVELS
from benchmarks.spread import spread_of, undisturbed

_CLOSED_LIMIT = 1.3
_OPEN_LIMIT = 1.6
_FAST_LIMIT = 8.0
_BINS_LIMIT = 1.05
_LAG_LEVEL = 0.5
_CONNECTIONS = 10_000
_RESIDENT_LIMIT_BYTES = 150e6
_LEAK_S = 590.0  # ten minutes less the start and the last readings
_GROWTH_LIMIT_BYTES = 1 << 20  # below what the allocator's own steps can be told from
_AGENTS = 1_000
_GROWTH_S = 3_500.0  # the slope of a shorter run says little of an hour
_MASTER_LIMIT_RATIO = 0.5
_AGE_LIMIT_S = 2.0
_CURVE_LIMIT = 2.0
_SHOW_LIMIT_S = 5.0
_HOUR = 3_600
_DAY = 86_400
_PAGE_LIMIT_S = 10.0
_PAGE_LIMIT_BYTES = 600e6
_SOAK_LIMIT_S = 60.0
_COMPARE_LIMIT_S = 15.0


def judge(results: Results) -> tuple[Claim, ...]:
    """All claims of the project, in the order in which it makes them."""
    return (
        *_cost_claims(results),
        *_bins_claims(results),
        *_lag_claims(results),
        _memory_claim(results),
        _leak_claim(results),
        *_fan_in_claims(results),
        _growth_claim(results),
        _curve_claim(results),
        _show_claim(results),
        *_page_claims(results),
        *grpc_claims(results.grpc),
    )


def _cost_claims(results: Results) -> tuple[Claim, ...]:
    what = "CPU per request, open load, mix of 5"
    rows = (
        ("CPU per request, closed load, against wrk", "closed", "wrk", _CLOSED_LIMIT),
        *(
            (f"{what} at {level:.0%} of saturation, against wrk", key, "wrk", _OPEN_LIMIT)
            for key, level in OPEN_LEVELS.items()
        ),
    )
    fast = "FastHttpUser's CPU per request against Headroom's, open load"
    part = results.cost
    if part is None or part.stamp.is_quick:
        why = "quick run" if part else "-"
        absent = [missing(text, f"<= {limit}", why) for text, _, _, limit in rows]
        return (*absent, missing(fast, f">= {_FAST_LIMIT}", why))
    claims = []
    for text, key, reference, limit in rows:
        ratio = undisturbed_ratio(part.samples, key, reference)
        measured = ratio_text(ratio, ratios_to(part.samples, key, reference))
        is_met = ratio <= limit
        claims.append(Claim(text=text, limit=f"<= {limit}", measured=measured, is_met=is_met))
    ratio = undisturbed_ratio(part.samples, "Fast", "open")
    measured = ratio_text(ratio, ratios_to(part.samples, "Fast", "open"))
    is_met = ratio >= _FAST_LIMIT
    return (*claims, Claim(text=fast, limit=f">= {_FAST_LIMIT}", measured=measured, is_met=is_met))


def _bins_claims(results: Results) -> tuple[Claim, Claim]:
    part = results.bins
    what = "CPU per request with bins of 100 ms against without, open load"
    if part is None or part.stamp.is_quick:
        why = "quick run" if part else "-"
        limit = f"<= {_BINS_LIMIT}"
        return missing(f"{what}, REST", limit, why), missing(f"{what}, gRPC", limit, why)
    return _bins_claim(f"{what}, REST", part.rest), _bins_claim(f"{what}, gRPC", part.grpc)


def _bins_claim(text: str, figures: BinsFigures) -> Claim:
    ratio = undisturbed_ratio(figures.samples, BINS, PLAIN)
    return Claim(
        text=text,
        limit=f"<= {_BINS_LIMIT}",
        measured=ratio_text(ratio, ratios_to(figures.samples, BINS, PLAIN)),
        is_met=ratio <= _BINS_LIMIT,
    )


def _lag_claims(results: Results) -> tuple[Claim, Claim]:
    part = results.lag
    if part is None or part.stamp.is_quick:
        return lag_claims("Send lag", (), "quick run" if part else "-")
    samples = [s for s in part.samples if s.level_ratio == _LAG_LEVEL]
    return lag_claims("Send lag", samples, "-")


def _memory_claim(results: Results) -> Claim:
    text, limit = "Resident memory of the engine at 10,000 connections", "<= 150 MB"
    samples = results.memory.samples if results.memory else ()
    found = [s for s in samples if s.connections >= _CONNECTIONS]
    if not found:
        return missing(text, limit, "-")
    resident = found[0].resident_bytes
    return Claim(
        text=text,
        limit=limit,
        measured=f"{resident / 1e6:.1f} MB",
        is_met=resident <= _RESIDENT_LIMIT_BYTES,
    )


def _leak_claim(results: Results) -> Claim:
    text, limit = "No growth over 10 minutes, 10,000 connections", "<= 1 MiB in 10 min (slope)"
    part = results.leak
    if part is None or min(s.seconds for s in part.samples) < _LEAK_S:
        return missing(text, limit, "shorter run" if part else "-")
    growth = [s.growth_bytes for s in part.samples]
    return Claim(
        text=text,
        limit=limit,
        measured=", ".join(f"{value / (1 << 20):+.2f} MiB" for value in growth),
        is_met=max(growth) <= _GROWTH_LIMIT_BYTES,
    )


def _fan_in_claims(results: Results) -> tuple[Claim, Claim]:
    first = ("Master with 1,000 agents: CPU", "< 50 % of a core")
    second = ("Master with 1,000 agents: age of the latest window", "<= 2 s")
    samples = results.fan_in.samples if results.fan_in else ()
    found = [s for s in samples if s.agents == _AGENTS]
    if not found:
        return missing(*first, "-"), missing(*second, "-")
    sample = found[0]
    is_whole = sample.windows_missing == 0
    cpu_ratio = undisturbed(sample.master_cpu_slices)
    return (
        Claim(
            text=first[0],
            limit=first[1],
            measured=f"{cpu_ratio:.0%}; whole run {sample.master_cpu_ratio:.0%}",
            is_met=is_whole and cpu_ratio < _MASTER_LIMIT_RATIO,
        ),
        Claim(
            text=second[0],
            limit=second[1],
            measured=f"{sample.age_max_s:.2f} s",
            is_met=is_whole and sample.age_max_s <= _AGE_LIMIT_S,
        ),
    )


def _growth_claim(results: Results) -> Claim:
    text, limit = "Master with 1,000 agents: memory growth", "< 1 MiB an hour (slope)"
    part = results.growth
    if part is None or part.sample.agents != _AGENTS or part.sample.seconds < _GROWTH_S:
        return missing(text, limit, "shorter run" if part else "-")
    slope = part.sample.slope_bytes_per_h
    return Claim(
        text=text,
        limit=limit,
        measured=f"{slope / (1 << 20):+.2f} MiB/h over {part.sample.seconds / 60:.0f} min",
        is_met=part.sample.is_whole and slope < _GROWTH_LIMIT_BYTES,
    )


def _curve_claim(results: Results) -> Claim:
    text, limit = "CURVE: CPU of a master with 1,000 agents, against plain", "<= 2.0 x"
    part = results.curve
    pairs = [] if part is None else [p for p in part.pairs if p.curve.agents == _AGENTS]
    if not pairs:
        return missing(text, limit, "fewer agents" if part else "-")
    spread = spread_of([pair.cpu_ratio for pair in pairs])
    is_whole = all(p.plain.windows_missing == p.curve.windows_missing == 0 for p in pairs)
    return Claim(
        text=text,
        limit=limit,
        measured=f"{spread.text(2)} x",
        is_met=is_whole and spread.median <= _CURVE_LIMIT,
    )


def _show_claim(results: Results) -> Claim:
    text, limit = "`headroom show` of a 1-hour, 10-endpoint archive", "< 5 s"
    part = results.show
    if part is None or part.sample.windows < _HOUR:
        return missing(text, limit, "shorter archive" if part else "-")
    seconds = median(part.sample.show_s)
    return Claim(
        text=text, limit=limit, measured=f"{seconds:.2f} s", is_met=seconds < _SHOW_LIMIT_S
    )


def _page_claims(results: Results) -> tuple[Claim, ...]:
    hour = ("`headroom report` of a 1-hour, 10-endpoint archive", "<= 10 s")
    memory = ("`headroom report` of the same: resident memory", "<= 600 MB")
    two = ("`headroom compare` of two such archives", "<= 15 s")
    day = ("`headroom report` of a 24-hour soak", "<= 60 s")
    samples = {s.windows: s for s in results.page.samples} if results.page else {}
    found, soak = samples.get(_HOUR), samples.get(_DAY)
    hours = (
        (missing(*hour, "-"), missing(*memory, "-"), missing(*two, "-"))
        if found is None
        else (
            _page_claim(*hour, found.report_s, _PAGE_LIMIT_S),
            Claim(
                text=memory[0],
                limit=memory[1],
                measured=f"{found.resident_bytes / 1e6:.0f} MB",
                is_met=found.resident_bytes <= _PAGE_LIMIT_BYTES,
            ),
            _page_claim(*two, found.compare_s, _COMPARE_LIMIT_S),
        )
    )
    return (*hours, _page_claim(*day, soak.report_s if soak else (), _SOAK_LIMIT_S))


def _page_claim(text: str, limit: str, took_s: tuple[float, ...], limit_s: float) -> Claim:
    if not took_s:
        return missing(text, limit, "-")
    seconds = median(took_s)
    return Claim(text=text, limit=limit, measured=f"{seconds:.1f} s", is_met=seconds <= limit_s)
