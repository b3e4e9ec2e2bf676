"""The grammar of objectives, alerts and aborts, and the one evaluation of a measure.

    objective  = measure comparison limit [ "on" name ] [ "in" name ]
    alert      = objective [ "for" duration ]                  "for": of pool_use and server.
    abort      = objective "for" duration
    measure    = [ "service_" | "failed_" | "done_" ] "p" number        0 < number < 100
               | "max" | "error_ratio" | "slo_error_ratio" | "success_ratio"
               | "dropped_ratio" | "throughput" | "goodput" | "pool_use"
               | "server." name                                a measure of [server]
               | "time_to_recover" | "time_to_detect" | "unavailability" | "longest_outage"
               | "blackout" | "downtime" | "error_budget_spent"
               | "lost_writes" | "resurrected_writes" | "duplicated_writes"
               | "rollbacks" | "traffic_off" | "all_green" | "relapses"
               | "cascading_failures" | "p95_restored"
    comparison = "<" | "<=" | ">" | ">=" | "=="                "==": of downtime and counts
    limit      = duration                                      of p.. and max
               | ratio                                         of .._ratio, pool_use
               | rate | percent [ "of" name ]                  of throughput, goodput
               | ratio | size | number | rate                  of server., by its unit
               | duration                                      of time_.., outages, blackout
               | "none"                                        of downtime
               | number                                        of .._writes, counts of rollouts
               | duration, ratio                               of traffic_off, all_green; p95_..

`on` names a request, `in` a judged stage; without them all requests together and each
judged stage on its own are meant. A percentage of throughput is of the named baseline,
or of the load's own. Examples: `p99.9 < 1 s`, `throughput >= 776000 rps`,
`p95 < 100 ms on submit in peak`, `error_ratio > 5 % for 30 s`.

Throughput is of complete responses, goodput of ok ones. A request without a response counts
in neither, and is later than any limit of `done_p..` and `max`.

Pool use is of HTTP/2 connections, all requests together (no `on`): in one second, streams
in use of all engines / streams that all their open connections carry at once, a ratio of
sums, so that a small engine's full pool does not speak for all. It is a level at a time and
not a sum over requests, so a stage's value is its *highest second*: "at most 80 %" has to
hold all the time, and a mean over the stage would hide ten minutes without a free stream in
an hour. How long a level lasted is what `for` says, of an alert as of an abort:
`pool_use > 90 % for 5 min` is about the highest level that held for five minutes on end.

`server.` measures are what the target says of itself (`[server]`, `server_metrics.py`):
`server.cpu < 80 %`, `server.memory < 512 MB`, `server.pool_in_use <= 80`. Each of its values
is a sample of a level, and a stage's value is the *highest mean over a minute of the worst
node* (over the stage, where that is shorter): a single sample may be a moment's peak or a
heap just before it is collected, and a mean over the stage would hide minutes. They are of
all requests (no `on`), lower is better, and no run is aborted on them: they come too seldom.

Those of failovers, from `time_to_recover` on, are of the whole run from the first fault on
and not of a stage; objectives alone may use them, and they turn bins of 100 ms on. With `on`
they are of one request. `time_to_recover` is the longest of all faults: from the fault to the
start of the first 30 s in which every other objective holds that bins can tell of (not pool
use, `server.` and `failed_p..`). `error_budget_spent` needs `slo` in `[criteria]`.
Examples: `time_to_recover < 300 s`, `downtime == none`, `lost_writes == 0`.

Those of rollouts are of the whole run too and need a `[failover.rollout]`: `rollbacks` counts
decisions to roll back; `traffic_off < 5 min` and `all_green < 10 min` count from the decision,
`relapses` and `cascading_failures` what went wrong besides, and `p95_restored <= 120 %` holds
the p95 of the last judged stage against that of the first.

An objective is good when true, an alert or abort is bad when true; a comparison that
points the wrong way (`p95 > 200 ms` as an objective) is refused. Grammar and evaluation
stand in one module, because a measure is added to both or to neither.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtests.clock import NS_PER_S
from loadtests.plan.model import Abort, Comparison, Measure, MeasureKind, Objective
from loadtests.plan.server_metrics import DEFAULT_MEASURES, ServerUnit
from loadtests.plan.units import (
    UnitError,
    parse_count,
    parse_duration_ns,
    parse_percent,
    parse_rate_per_s,
    parse_ratio,
    parse_size_bytes,
)
from loadtests.record.error_kinds import NO_CONNECTION, TIMEOUT
from loadtests.record.histogram import OVERFLOW, Histogram
from loadtests.record.tally import Tally
from loadtests.record.window import Count

_TEXT: Final = re.compile(
    r"\s*(?P<measure>[\w.-]+)\s*(?P<comparison><=|>=|==|<|>)\s*(?P<limit>[^<>=]*?)"
    r"(?:\s+on\s+(?P<request>\S+))?(?:\s+in\s+(?P<stage>\S+))?"
    r"(?:\s+for\s+(?P<sustain>[^<>]+?))?\s*"
)
_QUANTILE: Final = re.compile(
    r"(?P<prefix>service_|failed_|done_|)p(?P<percent>\d{1,2}(?:\.\d{1,6})?)"
)
_RELATIVE: Final = re.compile(r"(?P<percent>[^%]*%)(?:\s+of\s+(?P<baseline>\S+))?")

_QUANTILES: Final = {
    "": MeasureKind.RESPONSE_QUANTILE,
    "service_": MeasureKind.SERVICE_QUANTILE,
    "failed_": MeasureKind.FAILED_RESPONSE_QUANTILE,
    "done_": MeasureKind.DONE_RESPONSE_QUANTILE,
}
_PLAIN: Final = {
    "max": MeasureKind.RESPONSE_MAX,
    **{
        kind.value: kind
        for kind in (
            MeasureKind.ERROR_RATIO,
            MeasureKind.SLO_ERROR_RATIO,
            MeasureKind.SUCCESS_RATIO,
            MeasureKind.DROPPED_RATIO,
            MeasureKind.THROUGHPUT,
            MeasureKind.GOODPUT,
            MeasureKind.POOL_USE,
            MeasureKind.TIME_TO_RECOVER,
            MeasureKind.TIME_TO_DETECT,
            MeasureKind.UNAVAILABILITY,
            MeasureKind.LONGEST_OUTAGE,
            MeasureKind.BLACKOUT,
            MeasureKind.DOWNTIME,
            MeasureKind.ERROR_BUDGET_SPENT,
            MeasureKind.LOST_WRITES,
            MeasureKind.RESURRECTED_WRITES,
            MeasureKind.DUPLICATED_WRITES,
            MeasureKind.ROLLBACKS,
            MeasureKind.TRAFFIC_OFF,
            MeasureKind.ALL_GREEN,
            MeasureKind.RELAPSES,
            MeasureKind.CASCADING_FAILURES,
            MeasureKind.P95_RESTORED,
        )
    },
}
RATIO_KINDS: Final = frozenset(
    {
        MeasureKind.ERROR_RATIO,
        MeasureKind.SLO_ERROR_RATIO,
        MeasureKind.SUCCESS_RATIO,
        MeasureKind.DROPPED_RATIO,
    }
)
RATE_KINDS: Final = frozenset({MeasureKind.THROUGHPUT, MeasureKind.GOODPUT})
WRITE_KINDS: Final = frozenset(
    {
        MeasureKind.LOST_WRITES,
        MeasureKind.RESURRECTED_WRITES,
        MeasureKind.DUPLICATED_WRITES,
    }
)
# Of bins from a fault on; with those of writes, what is judged once a run.
OUTAGE_KINDS: Final = frozenset(
    {
        MeasureKind.TIME_TO_RECOVER,
        MeasureKind.TIME_TO_DETECT,
        MeasureKind.UNAVAILABILITY,
        MeasureKind.LONGEST_OUTAGE,
        MeasureKind.BLACKOUT,
        MeasureKind.DOWNTIME,
        MeasureKind.ERROR_BUDGET_SPENT,
    }
)
_ROLLOUT_COUNTS: Final = frozenset(
    {MeasureKind.ROLLBACKS, MeasureKind.RELAPSES, MeasureKind.CASCADING_FAILURES}
)
ROLLOUT_KINDS: Final = _ROLLOUT_COUNTS | {
    MeasureKind.TRAFFIC_OFF,
    MeasureKind.ALL_GREEN,
    MeasureKind.P95_RESTORED,
}
COUNT_KINDS: Final = WRITE_KINDS | _ROLLOUT_COUNTS
FAILOVER_KINDS: Final = OUTAGE_KINDS | WRITE_KINDS | ROLLOUT_KINDS
_WITHOUT_ON: Final = WRITE_KINDS | ROLLOUT_KINDS
_EXACT: Final = COUNT_KINDS | {MeasureKind.DOWNTIME}
_HIGHER_IS_BETTER: Final = RATE_KINDS | {MeasureKind.SUCCESS_RATIO}
MEASURE_EXPECTED: Final = ", ".join(
    ("a measure: p95, p99.9 (any pN)", "service_pN", "failed_pN", "done_pN", *_PLAIN, "server.NAME")
)
_SERVER: Final = "server."
_SERVER_LIMITS: Final[Mapping[ServerUnit, Callable[[str], float]]] = {
    ServerUnit.RATIO: parse_ratio,
    ServerUnit.BYTES: parse_size_bytes,
    ServerUnit.COUNT: parse_count,
    ServerUnit.PER_SECOND: parse_rate_per_s,
}
ServerUnits = Mapping[str, ServerUnit]  # by the name of a measure of [server]
DEFAULT_UNITS: Final[ServerUnits] = {one.name: one.unit for one in DEFAULT_MEASURES.values()}
# Levels at a time and no counts of requests: they have no "on", and alerts may say for how long.
LEVEL_KINDS: Final = frozenset({MeasureKind.POOL_USE, MeasureKind.SERVER})
OBJECTIVE_EXPECTED: Final = 'an objective, such as "p95 < 200 ms" or "throughput >= 1000 rps"'
CONFIDENCE_RATIO: Final = 0.99  # of the zero-late rule


@dataclass(frozen=True, slots=True, kw_only=True)
class RateReference:
    """What a percentage can refer to: named rates per second, and the load's own name."""

    baselines: Mapping[str, float]
    default: str | None

    def per_s(self, percent: float, name: str | None) -> float:
        """Arrivals per second; UnitError when the baseline is not known."""
        rests_on = ("baselines",) if name is not None else ("baselines", "load.baseline")
        name = self.default if name is None else name
        if name is None:
            raise UnitError(
                'a baseline: write "N % of NAME", or name one in load.baseline', rests_on=rests_on
            )
        if name not in self.baselines:
            known = ", ".join(sorted(self.baselines)) or "none is defined"
            raise UnitError(f"a baseline of [baselines] ({known}), not {name!r}", rests_on=rests_on)
        return self.baselines[name] * percent / 100.0


NO_BASELINES: Final = RateReference(baselines={}, default=None)


def parse_rate(text: str, reference: RateReference) -> float:
    """Arrivals per second of "500 rps", "150 %" or "90 % of rest"; UnitError otherwise."""
    relative = _RELATIVE.fullmatch(text.strip())
    if relative is None:
        return parse_rate_per_s(text)
    return reference.per_s(parse_percent(relative["percent"]), relative["baseline"])


def parse_measure(text: str, server: ServerUnits = DEFAULT_UNITS) -> Measure:
    """One measure by its name; UnitError lists the known ones."""
    if text.startswith(_SERVER):
        name = text.removeprefix(_SERVER)
        if name not in server:
            known = ", ".join(server) or "none, because the scenario has no [server]"
            raise UnitError(f"a measure of [server]: {known}", rests_on=("server",))
        return Measure(kind=MeasureKind.SERVER, quantile=None, server=name)
    quantile = _QUANTILE.fullmatch(text)
    if quantile is not None and float(quantile["percent"]) > 0:
        # From decimal text, so that p99.9 is the float 0.999 and not 99.9 / 100.
        return Measure(
            kind=_QUANTILES[quantile["prefix"]],
            quantile=round(float(quantile["percent"]) / 100.0, 10),
        )
    kind = _PLAIN.get(text)
    if kind is None:
        raise UnitError(MEASURE_EXPECTED)
    return Measure(kind=kind, quantile=None)


def _parse_none(text: str) -> float:
    if text != "none":
        raise UnitError('"downtime == none"')
    return 0.0


_LIMITS: Final[Mapping[MeasureKind, Callable[[str], float]]] = {
    **dict.fromkeys(RATIO_KINDS, parse_ratio),
    **dict.fromkeys(COUNT_KINDS, parse_count),
    MeasureKind.POOL_USE: parse_ratio,
    MeasureKind.ERROR_BUDGET_SPENT: parse_ratio,
    MeasureKind.P95_RESTORED: lambda text: parse_percent(text) / 100.0,
    MeasureKind.DOWNTIME: _parse_none,
}


def _parse_limit(
    measure: Measure, text: str, reference: RateReference, server: ServerUnits
) -> float:
    if measure.server is not None:
        return float(_SERVER_LIMITS[server[measure.server]](text))
    if measure.kind in RATE_KINDS:
        return parse_rate(text, reference)
    parse = _LIMITS.get(measure.kind)
    return float(parse_duration_ns(text)) if parse is None else parse(text)


def _check_direction(
    measure: Measure, comparison: Comparison, *, good_when_true: bool | None
) -> None:
    """None: either will do."""
    if comparison is Comparison.EQUALS or measure.kind is MeasureKind.DOWNTIME:
        if comparison is not Comparison.EQUALS or measure.kind not in _EXACT:
            raise UnitError('"==" of downtime and of counts of writes and rollouts alone')
        return
    is_upward = comparison in {Comparison.ABOVE, Comparison.AT_LEAST}
    if good_when_true is None:
        return
    if is_upward != ((measure.kind in _HIGHER_IS_BETTER) == good_when_true):
        signs = "< or <=" if is_upward else "> or >="
        meaning = "an objective (good when true)" if good_when_true else "bad when true"
        raise UnitError(f"{signs} here: this is {meaning}")


def _parse(
    text: str, reference: RateReference, server: ServerUnits, *, good_when_true: bool | None
) -> tuple[Objective, str | None]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise UnitError(OBJECTIVE_EXPECTED)
    measure = parse_measure(match["measure"], server)
    if measure.kind in FAILOVER_KINDS:
        _check_failover(measure, match, good_when_true=good_when_true)
    comparison = Comparison(match["comparison"])
    _check_direction(measure, comparison, good_when_true=good_when_true)
    if measure.kind in LEVEL_KINDS and match["request"] is not None:
        raise UnitError(f'{match["measure"]} without "on": it is of all requests together')
    objective = Objective(
        text=" ".join(text.split()),
        measure=measure,
        comparison=comparison,
        limit=_parse_limit(measure, match["limit"], reference, server),
        request=match["request"],
        stage=match["stage"],
    )
    return objective, match["sustain"]


def _check_failover(measure: Measure, match: re.Match[str], *, good_when_true: bool | None) -> None:
    if not good_when_true:
        raise UnitError(f"no {measure.kind.value}: it is known after the run, of objectives alone")
    if match["stage"] is not None:
        raise UnitError(f'{measure.kind.value} without "in": it is of the run from the fault on')
    if match["request"] is not None and measure.kind in _WITHOUT_ON:
        raise UnitError(f'{measure.kind.value} without "on": it is of all of them')


def parse_objective(
    text: str, reference: RateReference = NO_BASELINES, server: ServerUnits = DEFAULT_UNITS
) -> Objective:
    """One objective, unscaled: its condition must hold; UnitError says what was expected."""
    objective, sustain = _parse(text, reference, server, good_when_true=True)
    if sustain is not None:
        raise UnitError('an objective without "for": it holds over the whole stage')
    return objective


def parse_alert(
    text: str, reference: RateReference = NO_BASELINES, server: ServerUnits = DEFAULT_UNITS
) -> Objective:
    """One alert level, unscaled: its condition is bad news; UnitError otherwise."""
    alert, sustain = _parse(text, reference, server, good_when_true=False)
    if sustain is None:
        return alert
    if alert.measure.kind not in LEVEL_KINDS:
        raise UnitError('an alert without "for": it is judged over the whole stage')
    return dataclasses.replace(alert, sustain_ns=_parse_sustain(sustain))


def parse_abort(
    text: str, reference: RateReference = NO_BASELINES, server: ServerUnits = DEFAULT_UNITS
) -> Abort:
    """One abort condition with its sustain, at least a second; UnitError otherwise."""
    condition, sustain = _parse(text, reference, server, good_when_true=False)
    if condition.measure.kind is MeasureKind.SERVER:
        raise UnitError("no measure of the target itself: it is asked too seldom to abort on it")
    if sustain is None:
        raise UnitError('a condition with a sustain, such as "error_ratio > 5 % for 30 s"')
    return Abort(objective=condition, sustain_ns=_parse_sustain(sustain))


def parse_condition(text: str) -> Abort:
    """What a fault waits for: good or bad news, for at least a second; UnitError otherwise."""
    condition, sustain = _parse(text, NO_BASELINES, DEFAULT_UNITS, good_when_true=None)
    if condition.measure.kind in LEVEL_KINDS:
        raise UnitError("a measure of requests, such as p95 or error_ratio")
    if sustain is None:
        raise UnitError('how long it must last, such as "p95 > 300 ms for 5 s"')
    return Abort(objective=condition, sustain_ns=_parse_sustain(sustain))


def _parse_sustain(text: str) -> int:
    sustain_ns = parse_duration_ns(text)
    if sustain_ns < NS_PER_S:  # one window: nothing shorter is measured
        raise UnitError("a sustain of at least 1 s, the length of a window")
    return sustain_ns


def sustained_windows(sustain_ns: int) -> int:
    """Windows on end in which a condition must hold to have held for so long: 1 or more."""
    return max(1, -(-sustain_ns // NS_PER_S))


def is_met(objective: Objective, value: float) -> bool:
    """Whether the condition as written is true; NaN meets nothing."""
    if math.isnan(value):
        return False
    match objective.comparison:
        case Comparison.BELOW:
            return value < objective.limit
        case Comparison.AT_MOST:
            return value <= objective.limit
        case Comparison.ABOVE:
            return value > objective.limit
        case Comparison.AT_LEAST:
            return value >= objective.limit
        case Comparison.EQUALS:
            return value == objective.limit


def required_samples(quantile: float) -> int:
    """Samples below which a percentile is not printed as one that can pass: 90, 459, 4603.

    Zero-late rule of MLPerf early stopping: the smallest n with q**n <= 1 - 0.99, so that
    n samples without one late are 99 % evidence that at most 1 - q are. q in (0, 1).
    """
    n = max(1, math.ceil(math.log(1 - CONFIDENCE_RATIO) / math.log(quantile)))
    # Logarithms may be off by one ulp at an exact power; settle it on the definition.
    while n > 1 and quantile ** (n - 1) <= 1 - CONFIDENCE_RATIO:
        n -= 1
    while quantile**n > 1 - CONFIDENCE_RATIO:
        n += 1
    return n


def required_for(objective: Objective) -> int:
    """Samples below which an objective cannot pass: the zero-late rule.

    A limit of 0.1 % on errors says of requests what one on p99.9 says of them, and takes as
    many: none bad among fewer is no evidence (of 1,000 it would come by chance in one of 20
    runs though 0.3 % fail). A limit of 0 is met or not; a rate has no samples.
    """
    measure, limit = objective.measure, objective.limit
    if measure.quantile is not None:
        return required_samples(measure.quantile)
    if measure.kind in RATIO_KINDS:
        is_upward = objective.comparison in {Comparison.ABOVE, Comparison.AT_LEAST}
        good = limit if is_upward else 1 - limit
        return required_samples(good) if 0 < good < 1 else 1
    return 0


def _done_response(tally: Tally) -> Histogram:
    """All requests that ended; those that were never answered are later than any answer.

    The histogram of failed requests does not tell answers from the others, but the kinds
    say how many others there were, and where they lie: a timeout waited as long as a request
    may, so these are its highest entries; the rest (refused, reset) may have come at once
    and would flatter the quantile, so these are taken for its lowest ones.
    """
    counts = tally.failed_response.counts.copy()
    silent = min(tally.silent, tally.failed_response.n)
    waited = min(silent, sum(tally.errors.get(kind, 0) for kind in (TIMEOUT, NO_CONNECTION)))
    _take(counts[::-1], waited)
    _take(counts, silent - waited)
    counts[OVERFLOW] += silent
    return Histogram(counts=counts + tally.response.counts)


def _take(counts: NDArray[np.int64], number: int) -> None:
    """Take so many entries away, from the first bucket on."""
    before = np.cumsum(counts) - counts
    counts -= np.clip(number - before, 0, counts)


def _histogram(kind: MeasureKind, tally: Tally) -> Histogram:
    match kind:
        case MeasureKind.SERVICE_QUANTILE:
            return tally.service
        case MeasureKind.FAILED_RESPONSE_QUANTILE:
            return tally.failed_response
        case MeasureKind.RESPONSE_MAX | MeasureKind.DONE_RESPONSE_QUANTILE:
            return _done_response(tally)
        case MeasureKind.POOL_USE | MeasureKind.SERVER:
            raise ValueError(f"{kind.value} is a level at a time and not of requests")
        case failover if failover in FAILOVER_KINDS:
            raise ValueError(f"{kind.value} is of a fault and not of a stage's requests")
        case _:
            return tally.response


def samples_of(measure: Measure, tally: Tally) -> int:
    """How many requests the value rests on: histogram entries, done or planned ones."""
    if measure.kind is MeasureKind.DROPPED_RATIO:
        return tally.count(Count.PLANNED)
    if measure.kind is MeasureKind.THROUGHPUT:
        return tally.answered
    if measure.kind in RATIO_KINDS or measure.kind is MeasureKind.GOODPUT:
        return tally.done
    return _histogram(measure.kind, tally).n


def _ratio(measure: Measure, tally: Tally) -> float:
    failed, client = tally.count(Count.FAILED), tally.count(Count.CLIENT_ERROR)
    match measure.kind:
        case MeasureKind.DROPPED_RATIO:
            return tally.count(Count.DROPPED) / tally.count(Count.PLANNED)
        case MeasureKind.SLO_ERROR_RATIO:
            return failed / tally.done
        case MeasureKind.SUCCESS_RATIO:
            return tally.count(Count.OK) / tally.done
        case _:
            return (failed + client) / tally.done


def value_of(measure: Measure, tally: Tally, duration_s: float) -> float | None:
    """Value of a measure in its own unit (ns, ratio or per second); None: no data.

    Response and service percentiles are over ok requests alone and `failed_` ones over
    the others: failed requests have histograms of their own, so that fast failures cannot
    flatter a percentile. `done_` and `max` are over both, and a request that was never
    answered (timed out, refused, broken off) is later than any answer there: infinite.
    `done_` has data where nothing was rejected, which `failed_` has not. A value beyond
    the histogram's hour is infinite as well. Throughput counts complete responses, whatever
    they said; goodput the ok ones. A rate is None where nothing was planned and nothing
    ended; a planned second without an answer is a rate of 0. `duration_s` (> 0) is the time
    that the tally covers.
    """
    samples = samples_of(measure, tally)
    if measure.kind in RATE_KINDS:
        if samples == 0 and tally.count(Count.PLANNED) == 0:
            return None
        is_good = measure.kind is MeasureKind.GOODPUT
        return (tally.count(Count.OK) if is_good else tally.answered) / duration_s
    if samples == 0:
        return None
    if measure.kind in RATIO_KINDS:
        return _ratio(measure, tally)
    quantile = 1.0 if measure.quantile is None else measure.quantile
    return _histogram(measure.kind, tally).quantile_us(quantile) * 1000.0
