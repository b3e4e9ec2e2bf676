"""Where each number of a report comes from: file, columns, rows, and what was done with them.

A table or figure without a source is not shown: `SOURCES` names them all, and asking for one
that it lacks is an error of ours that the suite finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.record.archive import Run
from loadtests.record.directory import (
    EVENTS_FILE,
    JOURNAL_FILE,
    LATENCY_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    TOTALS_FILE,
    is_partial,
)

_OF_LOAD: Final = frozenset(
    {"windows.parquet", "errors.parquet", "engines.parquet", "hiccups.parquet"}
    | {LATENCY_FILE, TOTALS_FILE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """`files` of the archive, `columns` or tags in them, which `rows`, and `how` they became it."""

    files: tuple[str, ...]
    columns: str
    rows: str
    how: str

    def __str__(self) -> str:
        return f"{', '.join(self.files)}: {self.columns}; {self.rows}; {self.how}"


def _source(files: str, columns: str, rows: str, how: str) -> Source:
    return Source(files=tuple(files.split(" + ")), columns=columns, rows=rows, how=how)


_WINDOWS: Final = "windows.parquet"
_JUDGED: Final = "judged stages, rows with judged = true, by stage and request"
_SECONDS: Final = "all rows, by window_s"
_QUANTILE: Final = "smallest value v with count(<= v) >= ceil(q n) of the merged histogram"


def _tag(kind: str) -> str:
    return f"tags judged/<stage>/<request>/<node>/{kind}"


# Name of a table or figure -> its source.
SOURCES: Final[dict[str, Source]] = {
    # tables
    "objectives": _source(
        f"{PLAN_FILE} + {TOTALS_FILE} + {_WINDOWS} + {LATENCY_FILE}",
        "objectives of the plan; judged histograms and counters",
        "judged stages, rows with judged = true; rates: inside the stage and one second later",
        "judged as `headroom show` does; intervals: of seconds in blocks",
    ),
    "requirement": _source(
        f"{TOTALS_FILE} + {_WINDOWS}",
        "judged histograms and counters of the protocol's requests",
        _JUDGED,
        "limits of the requirement, sections 4 and 5, judged by the rules of the verdict",
    ),
    "rates": _source(
        f"{_WINDOWS} + {PLAN_FILE}",
        "planned, sent, dropped, ok, client_error, failed",
        "judged stages, rows with judged = true inside the stage and one second later, by request",
        "sums divided by the judged time",
    ),
    "outcomes": _source(_WINDOWS, "ok, client_error, failed", _JUDGED, "sums and their ratios"),
    "response_time": _source(TOTALS_FILE, _tag("response"), "one interval each", _QUANTILE),
    "baseline": _source(
        f"{TOTALS_FILE} + {_WINDOWS}",
        "as in the tables of rates and response time; the baseline's: rows of its file in "
        "results/baselines/", "one judged stage each", "value / baseline's value - 1",
    ),
    "service_time": _source(TOTALS_FILE, _tag("service"), "one interval each", _QUANTILE),
    "failed_response_time": _source(
        TOTALS_FILE, _tag("failed_response"), "one interval each", _QUANTILE
    ),
    "coordinated_omission_gap": _source(
        TOTALS_FILE, _tag("response, .../service"), "one interval each",
        "percentile of response time minus the same percentile of service time",
    ),
    "streaming_calls": _source(
        TOTALS_FILE, _tag("stream_setup, first_message, message"), "one interval each", _QUANTILE
    ),
    "generator": _source(
        f"{TOTALS_FILE} + engines.parquet + hiccups.parquet",
        "send_lag; cpu_ns, wall_ns, in_flight_ns; p99_ns, max_ns",
        "rows inside the judged time of the stage",
        "merged histogram; cpu_ns / wall_ns; largest ticker lateness",
    ),
    "stream_pool": _source(
        "engines.parquet", "streams, streams_in_use", "rows inside the judged time, by window_s",
        "sums over engines and their ratio",
    ),
    "faults": _source(
        f"{EVENTS_FILE} + bins.parquet + {_WINDOWS}",
        "fault events; bins of 100 ms by the time that a request was due; failed",
        "from the fault's acknowledged time on", "as `headroom show` measures a failover",
    ),
    "predictions": _source(
        f"{EVENTS_FILE} + bins.parquet", "predictions, made before the run; bins of 100 ms",
        "from the fault's acknowledged time on", "as `headroom show` measures a failover",
    ),
    "recovery": _source(
        f"{EVENTS_FILE} + bins.parquet", "fault events; bins of 100 ms by request",
        "from the fault's acknowledged time on", "as `headroom show` measures a failover",
    ),
    "rollout": _source(
        f"{EVENTS_FILE} + bins.parquet + {TOTALS_FILE}", "rollout events; bins of 100 ms; response",
        "from the decision on; judged stages", "as `headroom show` measures a rollout",
    ),
    "connection_storm": _source(
        f"{EVENTS_FILE} + bins.parquet", "fault events; connects, connect_failures",
        "from the fault's acknowledged time on", "the busiest second",
    ),
    "writes": _source(
        "writes.parquet + read_back.parquet", "each write's end, and what another node has",
        "all rows", "joined by the write's id",
    ),
    "server": _source(
        "server.parquet", "value by node and measure", "rows inside the judged time",
        "highest mean over a minute of the worst node; mean; highest value",
    ),
    "failed_scrapes": _source(
        "server.parquet", "measure scrape, failure", "rows with value 0", "counted"
    ),
    "saturation": _source(
        f"server.parquet + engines.parquet + {_WINDOWS}",
        "cpu; cpu_ns / wall_ns, in_flight, backlog; sent, dropped, send_lag_p99_us",
        "judged stages, by second", "the first of three seconds on end at the limit",
    ),
    "resources": _source(
        f"server.parquet + engines.parquet + {_WINDOWS}",
        "value of measure cpu; cpu_ns / wall_ns, in_flight_ns; ok, client_error, failed", _SECONDS,
        "the busiest node since its scrape before; the busiest engine; in flight, of those "
        "allowed; answers, of their highest second",
    ),
    "conservation": _source(
        MANIFEST_FILE, "total_sums, engine_sums, lost_requests, lost_windows", "the whole run",
        "as the engines counted them",
    ),
    "errors": _source(
        "errors.parquet", "kind, count, message", "rows of each stage, by request",
        "sums by kind; one sample message",
    ),
    "alerts": _source(
        f"{PLAN_FILE} + {TOTALS_FILE} + {_WINDOWS}", "alerts of the plan", _JUDGED,
        "read as objectives are; they change no verdict",
    ),
    "events": _source(EVENTS_FILE, "at_unix_ns, kind, who, text", "all lines", "as written"),
    "engines": _source(
        "engines.parquet", "cpu_ns, wall_ns, stalled_ns, backlog", "all rows, by engine",
        "cpu_ns / wall_ns: of all time, and the highest window",
    ),
    "workers": _source(
        MANIFEST_FILE, "agents: host, engines, clock_offset_ns, round_trip_ns, has_final", "all",
        "as measured before T0",
    ),
    "hosts": _source(
        f"{PLAN_FILE} + engines.parquet + {_WINDOWS}",
        "stages, connections; cpu_ns; sent, bytes_sent, bytes_received; prices: the file of host "
        "types",
        "judged stages with engines busy for a quarter of their time, else all",
        "lowest to highest of the stages, at the unscaled rate",
    ),
    "lost_windows": _source(MANIFEST_FILE, "lost_windows", "all", "as stated by the master"),
    "extremes": _source(
        _WINDOWS, "the column named in each row", "the row whose number is stated, from 0",
        "largest value of its column in judged rows",
    ),
    "run": _source(MANIFEST_FILE, "the field named in each row", "the whole file", "as written"),
    "files": _source(MANIFEST_FILE, "checksums, sizes_bytes", "all", "as written"),
    "stages": _source(f"{MANIFEST_FILE} + {PLAN_FILE}", "stages", "all", "as planned"),
    # figures
    "rate": _source(_WINDOWS, "planned, sent, ok, client_error, failed", _SECONDS, "sums"),
    "response": _source(
        f"{LATENCY_FILE} + {_WINDOWS}", "tags <stage>/<request>/<node>/response; response_max_us",
        _SECONDS, f"{_QUANTILE} of each second; largest maximum",
    ),
    "trouble": _source(
        _WINDOWS, "client_error, failed, dropped", _SECONDS, "sums"
    ),
    "in_flight": _source(
        "engines.parquet", "in_flight_ns, wall_ns, backlog, connections", _SECONDS,
        "sums over engines of in_flight_ns / wall_ns; sums of backlog and connections",
    ),
    "send_lag": _source(
        f"{_WINDOWS} + hiccups.parquet", "send_lag_p99_us, send_lag_max_us; max_ns", _SECONDS,
        "largest over requests and nodes; largest ticker lateness over hosts",
    ),
    "cpu": _source("engines.parquet", "cpu_ns, wall_ns", _SECONDS, "cpu_ns / wall_ns by engine"),
    "heat_map": _source(
        LATENCY_FILE, "tags <stage>/<request>/<node>/response", _SECONDS,
        "counts of ok requests, added up in cells of the same ratio of latencies",
    ),
    "spectrum": _source(
        f"{TOTALS_FILE} + {LATENCY_FILE}", _tag("response"), "judged, all requests of a stage",
        f"{_QUANTILE}; the band resamples the stage's seconds in blocks; the baseline's: response "
        "of its file in results/baselines/",
    ),
    "gap": _source(
        TOTALS_FILE, _tag("response, .../service"), "judged, all requests of the stage", _QUANTILE
    ),
    "throughput": _source(
        f"{TOTALS_FILE} + {_WINDOWS}", "judged response histograms; answers in the judged time",
        "one point a judged stage", f"{_QUANTILE}; answers divided by the judged time",
    ),
}  # fmt: skip


def source_of(name: str, run: Run) -> Source:
    """The source of a table or figure in this run; KeyError for one that nobody described.

    A partial run has no tables of its own yet: the same rows come from its journal.
    """
    source = SOURCES[name]
    if not is_partial(run.path):
        return source
    files = (JOURNAL_FILE if file in _OF_LOAD else file for file in source.files)
    return Source(
        files=tuple(dict.fromkeys(files)),
        columns=source.columns,
        rows=source.rows,
        how=source.how,
    )
