"""RESULTS.md, written from the samples; nothing in it is typed by hand.

Every table is of ratios or of figures that its method can defend, with its spread; a
part that was not measured says so, and a quick run is called one in its heading.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.bins_report import bins_section
from benchmarks.claims import judge
from benchmarks.cost import CostSample, ratios_to, undisturbed_ratio, undisturbed_us
from benchmarks.grpc_report import grpc_section
from benchmarks.markdown import heading, table
from benchmarks.results import (
    BinsPart,
    CostPart,
    CurvePart,
    FanInPart,
    GrowthPart,
    GrpcPart,
    LagPart,
    LeakPart,
    MemoryPart,
    PagePart,
    Part,
    Results,
    ShowPart,
    Stamp,
)
from benchmarks.send_lag import LagSample, undisturbed_above_ticker_us
from benchmarks.spread import spread_of, undisturbed

_MB = 1e6
_HEAD = """\
# Benchmark results

Written by `make bench` (`python -m benchmarks`) from `results.json` beside it, which holds
every sample. Figures are medians, in parentheses the lowest and the highest round.
Absolute times are those of the machine named below; the ratios are the result.
"""
_COST_METHOD = """\
One nginx (one process, access log off, keep-alive without end, 32 constant bytes) is pinned
to core 0, each generator in turn to core 1, 64 connections, in interleaved rounds whose
order turns. CPU is user + system time of the generator's processes by the kernel's
nanosecond clock, requests are counted by nginx; both over the same interval, after
start-up. A ratio is taken within its round. "Engine" is the engine alone: its driver, which
plays the agent, runs on core 0 and is given beside it ("with driver"). The whole generator
is agent, engine and ticker as `headroom run` starts them, all on core 1.

Other tenants of a virtual machine's physical cores slow whatever runs on them, for seconds
at a time: "undisturbed" is the lower quartile over all half seconds of all rounds, and the
claims are held against its ratio; the whole rounds stand beside it. The bare loop of Python
(fixed work, run on core 1 before each sample) says how much the core varied by itself.
"""
_LAG_METHOD = """\
Open load, mix of five, constant rate, 64 connections, on a core of its own; saturation is
what the same load reaches when it is asked for more. The ticker is a timerfd of 1 ms and
nothing else, on the same core just before and just after each level, pooled. "Undisturbed"
is the lower quartile over the seconds of all rounds, of the engine and of the ticker alike.
"""
_MEMORY_METHOD = """\
Closed load with think time, so that every connection is used, together about 10,000
requests/s; highest VmRSS of the engine process. Open connections are counted by nginx.
"""
_LEAK_METHOD = """\
Two engines on one core for the whole time. Slope: Theil-Sen over one VmRSS a second, the
first tenth left out.
"""
_FAN_IN_METHOD = """\
A real master (ZeroMQ bus, coordinator, merge, journal, archive on disk) pinned to core 1;
simulated agents in few processes on core 0 speak its protocol over real DEALER sockets: one
window a second each, twenty endpoints, together 1,550,000 requests/s, histograms as a service
under load fills them. "Undisturbed" is the lower quartile over
slices of two seconds. Age: moment of archiving less the end of the window's second.
"""
_GROWTH_METHOD = """\
The fan-in above for an hour. Every minute a master spools its rows and gives freed memory
back, which the next windows take again; kept is the lowest VmRSS of each two minutes. Slope:
Theil-Sen over those, the first third left out: what is kept of each agent's last minutes
fills up first.
"""
_CURVE_METHOD = """\
The fan-in above with as many agents as it has, in the clear and with a CURVE key for each
agent, in turn, the order changing; CPU includes ZeroMQ's own thread, which encrypts. Engines
have no part in it: they speak to their agent over a socket pair.
"""
_SHOW_METHOD = """\
The archive is written by the real writer from synthetic windows; timed is the whole
command, start of Python included.
"""


_PAGE_METHOD = """\
Archives as for `headroom show`; timed is the whole command, start of Python included, and the
most memory that its processes had together (pages that they share counted for each). A day is
measured with `--soak`.
"""


def write_report(results: Results) -> str:
    """Compose the whole text."""
    lines = [_HEAD, *_claims_section(results)]
    parts = (
        results.cost,
        results.bins,
        results.lag,
        results.grpc,
        results.memory,
        results.leak,
        results.fan_in,
        results.growth,
        results.curve,
        results.show,
        results.page,
    )
    measured = [part for part in parts if part is not None]
    if measured:
        lines += _machine_section(measured[-1].stamp)
    for part in measured:
        lines += _section(part, results)
    return "\n".join(lines) + "\n"


def _section(part: Part, results: Results) -> list[str]:
    match part:
        case CostPart():
            found = _cost_section(part)
        case BinsPart():
            found = bins_section(part)
        case LagPart():
            found = _lag_section(part)
        case GrpcPart():
            found = grpc_section(part, results, _lag_table(part.figures.lag))
        case MemoryPart():
            found = _memory_section(part)
        case LeakPart():
            found = _leak_section(part)
        case FanInPart() | CurvePart() | GrowthPart():
            found = _master_section(part)
        case ShowPart():
            found = _show_section(part)
        case PagePart():
            found = _page_section(part)
    return found


def _claims_section(results: Results) -> list[str]:
    rows = [[c.text, c.limit, c.measured, c.word] for c in judge(results)]
    return ["## Claims", "", *table(("claim", "limit", "measured", "verdict"), rows)]


def _machine_section(stamp: Stamp) -> list[str]:
    machine = stamp.machine
    facts = [
        ("processor", f"{machine.processor} ({machine.hypervisor})"),
        ("cores", str(machine.cores)),
        ("memory", f"{machine.memory_bytes / 2**30:.0f} GiB"),
        ("kernel", machine.kernel),
        ("descriptors", f"{machine.descriptors:,}"),
        *sorted(stamp.versions.items()),
    ]
    return ["", "## Machine and versions", "", *table(("what", "which"), facts)]


def _cost_row(part: CostPart, key: str, *, has_wrk: bool) -> list[str]:
    samples = [s for s in part.samples if s.key == key]
    wrk = spread_of(ratios_to(part.samples, key, "wrk")) if has_wrk else None
    beside = any(s.beside_cpu_ns for s in samples)
    return [
        part.titles[key],
        f"{undisturbed_ratio(part.samples, key, 'wrk'):.2f}" if wrk else "-",
        wrk.text(2) if wrk else "-",
        f"{wrk.ci_low:.2f}-{wrk.ci_high:.2f}" if wrk else "-",
        f"{undisturbed_us(part.samples, key):.2f}",
        spread_of([s.cost_us for s in samples]).text(2),
        f"{median(s.whole_cost_us for s in samples):.2f}" if beside else "",
        spread_of([s.rate_per_s for s in samples]).text(0),
        f"{median(s.utilisation_ratio for s in samples):.0%}",
        f"{median(s.server_utilisation_ratio for s in samples):.0%}",
    ]


def _worst_difference(samples: Sequence[CostSample]) -> float:
    return max(abs(s.own_count - s.server_count) / s.server_count for s in samples)


def _cost_section(part: CostPart) -> list[str]:
    keys = list(dict.fromkeys(s.key for s in part.samples))
    keys.sort(key=lambda key: median(s.cost_us for s in part.samples if s.key == key))
    header = (
        "generator",
        "CPU per request / wrk's, undisturbed",
        "whole rounds",
        "95 % interval of their median",
        "us per request, undisturbed",
        "whole rounds",
        "with driver or master",
        "requests/s",
        "its core",
        "nginx's core",
    )
    rounds = max(s.round_number for s in part.samples)
    has_wrk = "wrk" in keys
    return [
        *heading("CPU per request", part.stamp),
        _COST_METHOD,
        (
            f"{rounds} rounds of {part.seconds:g} s. Open load at {part.open_rate_per_s:,.0f}"
            f" requests/s, 70 % of its saturation ({part.saturation_per_s:,.0f}). Generators' own"
            f" counts differ from nginx's by at most {_worst_difference(part.samples):.2%}. The"
            f" bare loop took {spread_of([s.loop_us / 1000 for s in part.samples]).text(0)} ms."
        ),
        "",
        *table(header, (_cost_row(part, key, has_wrk=has_wrk) for key in keys)),
    ]


def _lag_table(every: Sequence[LagSample]) -> list[str]:
    header = (
        "level",
        "requests/s",
        "engine's core",
        "send lag p50 us, undisturbed",
        "whole rounds",
        "p99 above ticker us, undisturbed",
        "whole rounds",
        "send lag p99 us",
        "ticker p50 us",
        "ticker p99 us",
        "send lag max us",
        "ticker max us",
    )
    rows = []
    for level in sorted({s.level_ratio for s in every}):
        samples = [s for s in every if s.level_ratio == level]
        rows.append(
            [
                f"{level:.0%}",
                f"{median(s.planned_per_s for s in samples):,.0f}",
                f"{median(s.engine_utilisation_ratio for s in samples):.0%}",
                f"{undisturbed([value for s in samples for value in s.p50_slices_us]):.0f}",
                spread_of([s.p50_us for s in samples]).text(0),
                f"{undisturbed_above_ticker_us(samples):.0f}",
                spread_of([s.above_ticker_us for s in samples]).text(0),
                spread_of([s.p99_us for s in samples]).text(0),
                spread_of([s.ticker.p50_ns / 1000 for s in samples]).text(0),
                spread_of([s.ticker.p99_ns / 1000 for s in samples]).text(0),
                f"{max(s.max_us for s in samples):,.0f}",
                f"{max(s.ticker.max_ns for s in samples) / 1000:,.0f}",
            ]
        )
    return table(header, rows)


def _lag_section(part: LagPart) -> list[str]:
    rounds = max(s.round_number for s in part.samples)
    return [
        *heading("Send lag", part.stamp),
        _LAG_METHOD,
        (
            f"{rounds} rounds of {part.seconds:g} s a level (the first 2 s left out); saturation"
            f" {part.saturation_per_s:,.0f} requests/s."
        ),
        "",
        *_lag_table(part.samples),
    ]


def _memory_section(part: MemoryPart) -> list[str]:
    header = ("connections", "requests/s", "resident MB", "above 64 connections, kB each")
    rows = [
        [
            f"{s.connections:,}",
            f"{s.rate_per_s:,.0f}",
            f"{s.resident_bytes / _MB:.1f}",
            f"{(s.resident_bytes - s.idle_bytes) / s.connections / 1000:.1f}",
        ]
        for s in part.samples
    ]
    return [*heading("Memory", part.stamp), _MEMORY_METHOD, *table(header, rows)]


def _leak_section(part: LeakPart) -> list[str]:
    header = ("engine", "minutes", "requests", "first minute MB", "last minute MB", "kB per minute")
    rows = [
        [
            s.title,
            f"{s.seconds / 60:.1f}",
            f"{s.requests:,}",
            f"{s.first_bytes / _MB:.2f}",
            f"{s.last_bytes / _MB:.2f}",
            f"{s.slope_bytes_per_min / 1000:+.1f}",
        ]
        for s in part.samples
    ]
    return [*heading("Leak check", part.stamp), _LEAK_METHOD, *table(header, rows)]


def _master_section(part: FanInPart | GrowthPart | CurvePart) -> list[str]:
    match part:
        case FanInPart():
            return _fan_in_section(part)
        case GrowthPart():
            return _growth_section(part)
        case CurvePart():
            return _curve_section(part)


def _fan_in_section(part: FanInPart) -> list[str]:
    header = (
        "agents",
        "master's core, undisturbed",
        "whole run",
        "age p50 s",
        "age max s",
        "windows (missing)",
        "snapshot kB",
        "MB/s in",
        "master MB",
        "requests archived of sent",
    )
    rows = [
        [
            f"{s.agents:,}",
            f"{undisturbed(s.master_cpu_slices):.0%}",
            f"{s.master_cpu_ratio:.0%}",
            f"{s.age_p50_s:.2f}",
            f"{s.age_max_s:.2f}",
            f"{s.windows} ({s.windows_missing})",
            f"{s.snapshot_bytes / 1000:.1f}",
            f"{s.received_per_s / _MB:.1f}",
            f"{s.master_resident_bytes / _MB:.0f}",
            f"{s.requests_archived:,} of {s.requests_sent:,}",
        ]
        for s in part.samples
    ]
    found = [*heading("Master fan-in", part.stamp), _FAN_IN_METHOD, *table(header, rows)]
    return [*found, part.limit, ""] if part.limit else found


def _growth_section(part: GrowthPart) -> list[str]:
    sample = part.sample
    header = (
        "agents",
        "minutes",
        "highest MB",
        "kept MB after a third",
        "at the end",
        "MiB per hour",
        "master's core",
        "age max s",
    )
    kept = sample.kept_bytes or (0,)  # no two minutes in a quick run
    row = [
        f"{sample.agents:,}",
        f"{sample.seconds / 60:.1f}",
        f"{sample.master_resident_bytes / _MB:.2f}",
        f"{kept[len(kept) // 3] / _MB:.2f}",
        f"{kept[-1] / _MB:.2f}",
        f"{sample.slope_bytes_per_h / (1 << 20):+.2f}",
        f"{sample.master_cpu_ratio:.0%}",
        f"{sample.age_max_s:.2f}",
    ]
    return [*heading("Memory of a master", part.stamp), _GROWTH_METHOD, *table(header, [row])]


def _curve_section(part: CurvePart) -> list[str]:
    header = ("agents", "master's core, plain", "with CURVE", "ratio", "age max s", "MB/s in")
    rows = [
        [
            f"{pair.curve.agents:,}",
            f"{undisturbed(pair.plain.master_cpu_slices):.0%}",
            f"{undisturbed(pair.curve.master_cpu_slices):.0%}",
            f"{pair.cpu_ratio:.2f}",
            f"{pair.plain.age_max_s:.2f}, {pair.curve.age_max_s:.2f}",
            f"{pair.curve.received_per_s / _MB:.1f}",
        ]
        for pair in part.pairs
    ]
    return [
        *heading("CURVE on the control channel", part.stamp),
        _CURVE_METHOD,
        *table(header, rows),
    ]


def _show_section(part: ShowPart) -> list[str]:
    s = part.sample
    header = ("windows", "endpoints", "requests", "archive MB", "written in s", "`headroom show` s")
    shown = spread_of(s.show_s).text(2)
    row = [
        f"{s.windows:,}",
        str(s.endpoints),
        f"{s.requests:,}",
        f"{s.archive_bytes / _MB:.1f}",
        f"{s.write_s:.1f}",
        shown,
    ]
    return [*heading("Showing an archive", part.stamp), _SHOW_METHOD, *table(header, [row])]


def _page_section(part: PagePart) -> list[str]:
    header = (
        "windows", "archive MB", "`headroom report` s", "resident MB", "report.html kB",
        "`headroom compare` s", "resident MB",
    )  # fmt: skip
    rows = [
        [
            f"{s.windows:,}",
            f"{s.archive_bytes / _MB:.1f}",
            spread_of(s.report_s).text(1),
            f"{s.resident_bytes / _MB:.0f}",
            f"{s.page_bytes / 1000:.0f}",
            spread_of(s.compare_s).text(1) if s.compare_s else "-",
            f"{s.compare_resident_bytes / _MB:.0f}" if s.compare_s else "-",
        ]
        for s in part.samples
    ]
    return [*heading("Reporting an archive", part.stamp), _PAGE_METHOD, *table(header, rows)]
