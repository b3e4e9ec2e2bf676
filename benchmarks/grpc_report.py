"""The section of RESULTS.md on gRPC, and how many cores the great rates would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from benchmarks.cost import CostSample, ratios_to, undisturbed_ratio, undisturbed_us
from benchmarks.grpc_part import USUAL, GrpcFigures
from benchmarks.markdown import heading, table
from benchmarks.million import MillionSample
from benchmarks.results import GrpcPart, Results
from benchmarks.saturation import OPEN_LEVEL
from benchmarks.spread import spread_of

MOST_BUSY_RATIO = 0.9  # of its core: a busier engine makes a run INCONCLUSIVE
_RATES = (("REST", 776_000), ("gRPC", 1_000_000), ("gRPC", 2_000_000))
_METHOD = """\
One unary call, 64 bytes each way, as in "CPU per request" above: server on core 0,
generators in turn on core 1, interleaved rounds, ratios within a round. Shapes are
connections x streams. nghttpd gives a static file with trailers; grpc-go is built from
`benchmarks/go_server`. Requests are counted at the server: calls by grpc-go, and for nghttpd
the bytes that the kernel says it wrote, at so many an answer. The Python clients keep 8 x 100
calls under way. Open load sends transactions with a uuid, two accounts and an amount that
differ in every request, and records both latencies.
"""
_LAG_METHOD = """\
Send lag of that open load, as in "Send lag" above:
"""
_MILLION_METHOD = """\
Unique transactions at half of saturation, counted by plan, engine, windows and server:
"""
_CORES_METHOD = f"""\
Cores for the great rates at the undisturbed cost of open load at 90 % of saturation, with
engines at most {MOST_BUSY_RATIO:.0%} busy, which is where a run stops being valid. The target,
its network and agents come on top:
"""


def reference_of(key: str) -> str:
    """The contestant that one is held against: h2load in the same shape."""
    shape = key if "x" in key else USUAL
    return f"h2load {shape.removeprefix('h2load ')}"


def _row(samples: Sequence[CostSample], key: str, title: str) -> list[str]:
    mine = [s for s in samples if s.key == key]
    reference = reference_of(key)
    return [
        title,
        f"{undisturbed_ratio(samples, key, reference):.2f}",
        spread_of(ratios_to(samples, key, reference)).text(2),
        f"{undisturbed_us(samples, key):.2f}",
        spread_of([s.cost_us for s in mine]).text(2),
        spread_of([s.rate_per_s for s in mine]).text(0),
        f"{median(s.utilisation_ratio for s in mine):.0%}",
        f"{median(s.server_utilisation_ratio for s in mine):.0%}",
    ]


def _cost_table(figures: GrpcFigures, name: str, samples: Sequence[CostSample]) -> list[str]:
    header = (
        f"generator, against {name}",
        "CPU per request / h2load's in the same shape, undisturbed",
        "whole rounds",
        "us per request, undisturbed",
        "whole rounds",
        "requests/s",
        "its core",
        "server's core",
    )
    keys = dict.fromkeys(s.key for s in samples)
    titles = figures.titles
    return [
        "",
        *table(header, (_row(samples, key, titles[key]) for key in sorted(keys, key=_rank))),
    ]


def _rank(key: str) -> tuple[bool, str, bool]:
    """Shapes together, h2load first; then the others."""
    return "x" not in key, key.removeprefix("h2load "), not key.startswith("h2load")


def _million_table(sample: MillionSample) -> list[str]:
    header = ("planned", "sent", "ok", "in windows", "by the server", "seconds", "memory grew by")
    row = [
        f"{sample.planned:,}",
        f"{sample.sent:,}",
        f"{sample.ok:,}",
        f"{sample.windows_ok:,}",
        f"{sample.server_count:,} ({sample.server_difference_ratio:.3%} off)",
        f"{sample.seconds:.0f}",
        f"{sample.growth_bytes / 1e6:+.2f} MB",
    ]
    return table(header, [row])


def cores_for(rate_per_s: float, cost_us: float) -> int:
    """Whole cores of engines for a rate, none of them too busy."""
    return math.ceil(rate_per_s * cost_us / 1e6 / MOST_BUSY_RATIO)


def _cores_table(results: Results) -> list[str]:
    measured = {
        "REST": () if results.cost is None else results.cost.samples,
        "gRPC": () if results.grpc is None else results.grpc.figures.nghttpd,
    }
    costs = {
        name: undisturbed_us(samples, "high")
        for name, samples in measured.items()
        if any(sample.key == "high" for sample in samples)
    }
    header = ("load", "requests/s", "us per request, open load", "cores of engines")
    rows = [
        [name, f"{rate:,}", f"{costs[name]:.2f}", str(cores_for(rate, costs[name]))]
        for name, rate in _RATES
        if name in costs
    ]
    return table(header, rows)


def grpc_section(part: GrpcPart, results: Results, lag_table: list[str]) -> list[str]:
    """Compose the section; `lag_table` is the one of the part's send lag."""
    figures = part.figures
    rounds = max(s.round_number for s in figures.nghttpd)
    loops = [s.loop_us / 1000 for s in (*figures.nghttpd, *figures.grpc_go)]
    lines = [
        *heading("gRPC", part.stamp),
        _METHOD,
        (
            f"{rounds} rounds of {figures.seconds:g} s. Open load at"
            f" {figures.open_rate_per_s:,.0f} requests/s, {OPEN_LEVEL:.0%} of its saturation"
            f" ({figures.saturation_per_s:,.0f}). The bare loop took"
            f" {spread_of(loops).text(0)} ms."
        ),
    ]
    for name, samples in (("nghttpd", figures.nghttpd), ("grpc-go", figures.grpc_go)):
        if samples:
            lines += _cost_table(figures, name, samples)
    if not figures.grpc_go:
        lines += ["", "grpc-go could not be built here."]
    return [
        *lines,
        "",
        _LAG_METHOD,
        *lag_table,
        "",
        _MILLION_METHOD,
        *_million_table(figures.million),
        "",
        _CORES_METHOD,
        *_cores_table(results),
    ]
