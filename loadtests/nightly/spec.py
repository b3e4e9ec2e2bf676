"""What a nightly plan may hold: the specification types of `version = 1`.

Field names are the keys of the file (`from_` is `from`); defaults are the format's. Decoding
is the scenarios' own (`loadtests.plan.decoding`): every mistake at once, each with its path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from loadtests.plan.spec import SECOND, Name, PositiveNs, Ratio, Version, Weight, Whole

MINUTE: int = 60 * SECOND
HOUR: int = 60 * MINUTE
_RUN_BESIDE = PositiveNs(2 * MINUTE)
_UPLOAD = PositiveNs(30 * MINUTE)
_CATCH_UP = PositiveNs(12 * HOUR)
_OVERDUE = PositiveNs(26 * HOUR)
# Of virtual machines: a core and its network path are shared, a disk is somewhere else.
_CPU, _LOOPBACK, _DISK_SYNC = Ratio(0.10), Ratio(0.30), Ratio(1.0)


class StepKind(Enum):
    """What a step does."""

    RUN = "run"  # a scenario
    COMPARE = "compare"  # every complete run of this night with its baseline
    TREND = "trend"  # the history of every scenario of this night


class Occasion(Enum):
    """When somebody is told."""

    ALWAYS = "always"
    FAILURE = "failure"  # FAIL, a fault of ours, aborted
    VOID = "void"  # the host moved
    INCONCLUSIVE = "inconclusive"
    RECOVERED = "recovered"  # PASS after a night that was not


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """`[[steps]]`: `scenario` is relative to the plan; `arguments` go to `headroom run`."""

    name: Name
    do: StepKind = StepKind.RUN
    scenario: str | None = None
    arguments: tuple[str, ...] = ()
    days: tuple[str, ...] = ()  # "mon" to "sun", of the night; none: every night
    required: bool = False  # without its PASS no later run begins


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """`[[authorised]]` and `[[quiet]]`: from one time of day to another, in a time zone."""

    from_: str
    to: str
    days: tuple[str, ...] = ()  # on which it begins
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """`[budget]`; `cost_per_hour` is of the whole fleet (`headroom size` computes it)."""

    time: PositiveNs
    cost: Weight | None = None  # of a night, in the currency of cost_per_hour
    cost_per_hour: Weight | None = None
    beside: PositiveNs = _RUN_BESIDE  # of each run: joining, draining, judging


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheckSpec:
    """`[host_check]`: by how much each measurement may differ from the median of its history."""

    cpu: Ratio = _CPU
    loopback: Ratio = _LOOPBACK
    disk_sync: Ratio = _DISK_SYNC


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSpec:
    """`[retention]`: archives of this many newest nights are kept; baselines and failures all."""

    nights: Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSpec:
    """`[upload]`: a command without a shell; {results}, {night} and {record} are filled in."""

    command: tuple[str, ...]
    timeout: PositiveNs = _UPLOAD


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySpec:
    """`[notify]`: names of environment variables that each hold Apprise URLs, never the URLs."""

    variables: tuple[str, ...]
    on: tuple[Occasion, ...] = (
        Occasion.FAILURE,
        Occasion.VOID,
        Occasion.INCONCLUSIVE,
        Occasion.RECOVERED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlySpec:
    """The whole file; `at` is UTC."""

    version: Version
    name: Name
    at: str
    steps: tuple[StepSpec, ...]
    budget: BudgetSpec
    catch_up: PositiveNs = _CATCH_UP  # how late a missed night may still begin
    retries: int = 1  # of a run that the host alone made INCONCLUSIVE
    overdue: PositiveNs = _OVERDUE  # without a result for so long: `--check` fails
    host_check: HostCheckSpec = field(default_factory=HostCheckSpec)
    authorised: tuple[WindowSpec, ...] = ()  # none: always
    quiet: tuple[WindowSpec, ...] = ()
    retention: RetentionSpec | None = None
    upload: UploadSpec | None = None
    notify: NotifySpec | None = None
