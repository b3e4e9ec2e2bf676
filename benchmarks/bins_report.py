"""The section on bins of RESULTS.md."""

from __future__ import annotations

from statistics import median

from benchmarks.bins import BINS, PLAIN
from benchmarks.cost import ratios_to, undisturbed_ratio, undisturbed_us
from benchmarks.markdown import heading, table
from benchmarks.results import BinsPart
from benchmarks.spread import spread_of

_METHOD = """\
The same engine under the same open load without and with bins, in turn, at a third of saturation;
cores, counting and "undisturbed" as for the CPU per request.
"""
_HEADER = (
    "load",
    "requests/s",
    "us per request without",
    "with bins",
    "ratio, undisturbed",
    "whole rounds",
    "95 % interval of their median",
    "engine's core",
)


def bins_section(part: BinsPart) -> list[str]:
    """The ratio of each protocol."""
    rows = []
    for title, figures in (
        ("REST, mix of 5, nginx", part.rest),
        ("gRPC, unique transactions, 8 x 100, nghttpd", part.grpc),
    ):
        rounds = spread_of(ratios_to(figures.samples, BINS, PLAIN))
        own = [sample for sample in figures.samples if sample.key == BINS]
        rows.append(
            [
                title,
                f"{figures.rate_per_s:,.0f}",
                f"{undisturbed_us(figures.samples, PLAIN):.2f}",
                f"{undisturbed_us(figures.samples, BINS):.2f}",
                f"{undisturbed_ratio(figures.samples, BINS, PLAIN):.3f}",
                rounds.text(3),
                f"{rounds.ci_low:.3f}-{rounds.ci_high:.3f}",
                f"{median(sample.utilisation_ratio for sample in own):.0%}",
            ]
        )
    count = max(sample.round_number for sample in part.rest.samples)
    lengths = f"{count} rounds of {part.seconds:g} s for each."
    return [*heading("Bins of 100 ms", part.stamp), _METHOD, lengths, "", *table(_HEADER, rows)]
