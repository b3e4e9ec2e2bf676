"""The nouns of a plan, as frozen values: what the rest of Headroom reads.

A scenario file is decoded (`plan/scenario.py`) into a `Scenario`; `plan/resolve.py`
makes it a `Plan` by applying scale, seed and command-line targets. A plan holds all
that an engine needs (bodies, feed rows and CA certificates are inside it) and nothing
secret: `${env:NAME}` stays a placeholder and is filled on the engine's own host.

Times are integer nanoseconds from the plan's start T0, rates are arrivals per second,
ratios are 0-1. Checks and profiles are tagged msgspec structs instead of dataclasses,
because they travel in unions and a union on the wire needs its tag. One module holds all
nouns, so that every room has one place to look.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum

import msgspec

from loadtests.plan.call import Call, Endpoint, Multiplexing, Protocol, authority_of
from loadtests.plan.failover import Failover
from loadtests.plan.server_metrics import Scraping
from loadtests.record.window import CONNECTION, Kind, SlotSpace


class LoadModel(Enum):
    """Open load comes on schedule whatever the target does; closed waits for answers."""

    OPEN = "open"
    CLOSED = "closed"


class ArrivalProcess(Enum):
    """How arrivals of open load are spaced."""

    CONSTANT = "constant"
    POISSON = "poisson"


class LossPolicy(Enum):
    """What becomes of the run when an engine or agent is lost."""

    ABORT = "abort"
    CONTINUE = "continue"
    REDISTRIBUTE = "redistribute"


class MeasureKind(Enum):
    """What an objective can limit."""

    RESPONSE_QUANTILE = "response quantile"  # nanoseconds
    SERVICE_QUANTILE = "service quantile"  # nanoseconds
    FAILED_RESPONSE_QUANTILE = "failed response quantile"  # ns, of client_error and failed
    DONE_RESPONSE_QUANTILE = "done response quantile"  # ns, of all answers, ok or not
    RESPONSE_MAX = "response maximum"  # nanoseconds
    ERROR_RATIO = "error_ratio"  # (client_error + failed) / done
    SLO_ERROR_RATIO = "slo_error_ratio"  # failed / done
    SUCCESS_RATIO = "success_ratio"  # 1 - error_ratio
    DROPPED_RATIO = "dropped_ratio"  # dropped / planned
    THROUGHPUT = "throughput"  # complete responses per second
    GOODPUT = "goodput"  # ok per second
    POOL_USE = "pool_use"  # streams in use / those that open HTTP/2 connections carry at once
    SERVER = "server"  # what the target says of itself, in the unit of the measure
    # Of the whole run from the first fault on (analysis/recovery):
    TIME_TO_RECOVER = "time_to_recover"  # ns
    TIME_TO_DETECT = "time_to_detect"  # ns
    UNAVAILABILITY = "unavailability"  # ns, of all stretches with success < 99.9 %
    LONGEST_OUTAGE = "longest_outage"  # ns, of the longest of them
    BLACKOUT = "blackout"  # ns without any success
    DOWNTIME = "downtime"  # none, or not
    ERROR_BUDGET_SPENT = "error_budget_spent"  # ratio of what the SLO forgives in its window
    LOST_WRITES = "lost_writes"  # acknowledged and absent
    RESURRECTED_WRITES = "resurrected_writes"  # refused and present
    DUPLICATED_WRITES = "duplicated_writes"  # present twice
    # Of a rollout, from the decision to roll back on (analysis/recovery/rollback.py):
    ROLLBACKS = "rollbacks"  # how often it was decided
    TRAFFIC_OFF = "traffic_off"  # ns, until the new version serves nothing any more
    ALL_GREEN = "all_green"  # ns, until every objective holds again
    RELAPSES = "relapses"  # times that objectives missed again after that
    CASCADING_FAILURES = "cascading_failures"  # nodes of the version before that went down
    P95_RESTORED = "p95_restored"  # ratio, the last judged stage's to the first one's


class Comparison(Enum):
    """How a value is held against its limit."""

    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="
    EQUALS = "=="


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses, not for names that resolve to one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One base URL of the target; `weight` is its relative part of the requests."""

    name: str
    scheme: str  # "http" or "https"
    host: str  # name or address, IPv6 without brackets
    port: int
    base_path: str  # "" or "/prefix", no trailing slash
    weight: float
    grpc: Endpoint | None  # None: gRPC goes to the base URL as well

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return authority_of(self.scheme, self.host, self.port)

    @property
    def foreign_hosts(self) -> tuple[str, ...]:
        """Hosts of its URLs that are not loopback: each must be authorised."""
        hosts = (self.host,) if self.grpc is None else (self.host, self.grpc.host)
        return tuple(dict.fromkeys(host for host in hosts if not is_loopback(host)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS to all https nodes. Key files stay on the engine's host and are read there."""

    verify: bool
    ca_pem: str | None  # None: the system's certificates
    client_certificate_path: str | None
    client_key_path: str | None
    server_name: str | None  # SNI and verified name; None: the node's host


class BodyContains(msgspec.Struct, frozen=True, kw_only=True, tag="body_contains"):
    """The response body holds this text."""

    text: str


class JsonEquals(msgspec.Struct, frozen=True, kw_only=True, tag="json_equals"):
    """The RFC 6901 pointer into the JSON body equals this value."""

    pointer: str
    value: str | int | float | bool | None


class MaxBytes(msgspec.Struct, frozen=True, kw_only=True, tag="max_bytes"):
    """The response body has at most this many bytes."""

    size_bytes: int


Check = BodyContains | JsonEquals | MaxBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One kind of request; path, header values and body may hold placeholders."""

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    weight: float
    expected_statuses: tuple[int, ...]  # sorted; empty means any 2xx
    checks: tuple[Check, ...]
    timeout_ns: int
    protocol: Protocol
    call: Call | None  # of gRPC; then `path` is the method's and `headers` are the metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A CSV table for `${name.column}`; row `sequence % len(rows)` serves an arrival."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Hold(msgspec.Struct, frozen=True, kw_only=True, tag="hold"):
    """A constant level: arrivals per second (open) or connections (closed)."""

    level: float


class Ramp(msgspec.Struct, frozen=True, kw_only=True, tag="ramp"):
    """From `start` to `end`, linear in time."""

    start: float
    end: float


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """From `start` to `end` in `steps` equal levels of equal length."""

    start: float
    end: float
    steps: int


class Spike(msgspec.Struct, frozen=True, kw_only=True, tag="spike"):
    """`base`, but `peak` from `peak_start_ns` for `peak_ns`."""

    base: float
    peak: float
    peak_start_ns: int
    peak_ns: int


class Sine(msgspec.Struct, frozen=True, kw_only=True, tag="sine"):
    """`mean + amplitude * sin(2 pi t / period)`, amplitude at most the mean."""

    mean: float
    amplitude: float
    period_ns: int


Profile = Hold | Ramp | Step | Spike | Sine


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of the run; `[start_ns, end_ns)` from T0. A warm-up is not judged."""

    name: str
    start_ns: int
    end_ns: int
    profile: Profile
    is_judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A measurement that has a limit; `quantile` (0-1) for the quantile kinds, else None.

    `server` names the measure of `Plan.scraping` that a SERVER kind is about.
    """

    kind: MeasureKind
    quantile: float | None
    server: str | None = None  # archives of before the target was scraped have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """`measure comparison limit`, over one request or all, in one judged stage or each.

    `limit` is in ns, ratio, bytes, a count or per second by the measure; `text` is as the
    author wrote it. Throughput limits of a plan are already scaled. `sustain_ns` is how long
    an alert's condition must last; 0: it is judged over the whole stage.
    """

    text: str
    measure: Measure
    comparison: Comparison
    limit: float
    request: str | None
    stage: str | None
    sustain_ns: int = 0  # archives of before alerts could be sustained have none


@dataclass(frozen=True, slots=True, kw_only=True)
class LateMark:
    """A limit of latency that answers are counted against in every bin: response or service."""

    kind: Kind
    limit_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """Engines record bins of 100 ms, and in each how many answers were later than each mark."""

    marks: tuple[LateMark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """The part of requests that may not fail (0-1) over so many days: an error budget."""

    ratio: float
    window_days: int


class ReadOver(Enum):
    """Whom a write is read back from."""

    TARGET = "target"  # another of the target's nodes than the one that took it, if there are two
    NODES = "nodes"  # two of `[failover]`'s, behind a load balancer that hides who took it


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRead:
    """How a write is read back; texts hold `${id}`, `copies` is a JSON pointer or None."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str | None
    copies: str | None
    present: tuple[int, ...]
    absent: tuple[int, ...]
    over: ReadOver = ReadOver.TARGET  # archives of before it could be said have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every end of `request` is logged by its engine, and read back by its `id` after the run."""

    request: str
    id: str
    read: AuditRead
    timeout_ns: int
    reads_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """The run ends when `objective`'s condition is TRUE without a break for `sustain_ns`."""

    objective: Objective
    sustain_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A scenario resolved: absolute stages and rates, mix, seed.

    `connections`, `in_flight_limit` and `backlog_limit` are totals over the run; each
    engine takes its share. `max_rate_per_s` is the hard ceiling over the run. `connections`
    are those of HTTP/1.1, 0 where no request uses it; those of HTTP/2 are `multiplexing`'s.
    """

    scenario_name: str
    scenario_text: str
    description: str
    scale: float
    seed: int
    load_model: LoadModel
    arrival_process: ArrivalProcess
    nodes: tuple[Node, ...]
    tls: Tls | None
    requests: tuple[Request, ...]
    feeds: tuple[Feed, ...]
    stages: tuple[Stage, ...]
    connections: int
    in_flight_limit: int
    backlog_limit: int
    pipelining: int  # requests in flight on one HTTP/1.1 connection; 1: off
    multiplexing: Multiplexing
    descriptors: bytes  # FileDescriptorSet of all calls; empty without gRPC
    think_time_ns: int  # closed load only
    max_rate_per_s: float
    response_limit_bytes: int
    connect_timeout_ns: int
    connects_per_s: float  # connection establishment is spread: total per second
    grace_ns: int  # drain after the last stage
    loss_policy: LossPolicy
    objectives: tuple[Objective, ...]
    alerts: tuple[Objective, ...]
    aborts: tuple[Abort, ...]
    version_path: str | None  # GET before the run; the answer's text goes to the manifest
    baselines: tuple[tuple[str, float], ...]  # named rates, per second, unscaled
    load_percent: float | None  # of the baseline, where the scenario is a load profile
    failover: Failover | None = None  # archives of before there were faults have none
    scraping: Scraping | None = None  # archives of before the target was scraped have none
    binning: Binning | None = None  # None: no bins, also in archives of before there were any
    slo: Slo | None = None
    audit: Audit | None = None

    def is_audited(self, request: str) -> bool:
        """Whether the request's ends are logged one by one."""
        return self.audit is not None and self.audit.request == request

    @property
    def duration_ns(self) -> int:
        """Length of all stages, drain not included."""
        return self.stages[-1].end_ns

    @property
    def all_connections(self) -> int:
        """Connections of both kinds, a descriptor and a port each."""
        return self.connections + self.multiplexing.connections

    @property
    def slots(self) -> SlotSpace:
        """The numbering of this plan's windows."""
        return SlotSpace(
            stages=tuple(stage.name for stage in self.stages),
            requests=(*(request.name for request in self.requests), CONNECTION),
            nodes=tuple(node.name for node in self.nodes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The arrivals whose sequence number is `residue` modulo `modulus`, due from `from_ns` on.

    Engine i of N holds Share(residue=i, modulus=N, from_ns=0). A lost share splits into
    M parts Share(residue=i + N*j, modulus=N*M, from_ns=takeover).
    """

    residue: int
    modulus: int
    from_ns: int

    def split(self, parts: int, from_ns: int) -> tuple[Share, ...]:
        """Divide into disjoint parts that cover it from `from_ns` on."""
        return tuple(
            Share(
                residue=self.residue + self.modulus * part,
                modulus=self.modulus * parts,
                from_ns=from_ns,
            )
            for part in range(parts)
        )
