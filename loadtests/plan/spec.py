"""What a scenario file may hold: the specification types of `version = 1`.

Field names are the keys of the file (a trailing underscore is dropped: `from_` is
`from`); defaults here are the defaults of the format. Types say what a value's text must
be; `decoding.py` turns texts into them and reports each mistake with its path, and
`resolve.py` checks what concerns several keys at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType

from loadtests.plan.call import Compression, Protocol
from loadtests.plan.failover import Quorum, System
from loadtests.plan.model import ArrivalProcess, Feed, LoadModel, LossPolicy, ReadOver
from loadtests.plan.server_metrics import ServerUnit

DurationNs = NewType("DurationNs", int)  # "200 ms"
PositiveNs = NewType("PositiveNs", int)  # a duration above 0
RateText = NewType("RateText", str)  # "500 rps", "150 %", "90 % of rest"; resolved later
PerSecond = NewType("PerSecond", float)  # "500 rps"
SizeBytes = NewType("SizeBytes", int)  # "64 KiB"
Url = NewType("Url", str)  # "https://host:port/prefix"
UrlPath = NewType("UrlPath", str)  # "/api/info"
Name = NewType("Name", str)  # a label: letters, digits, . _ -
Whole = NewType("Whole", int)  # 1 and above
Ratio = NewType("Ratio", float)  # "99.99 %"
Weight = NewType("Weight", float)  # above 0
Percent = NewType("Percent", int)  # "25 %", whole, 0..100
BytesPerSecond = NewType("BytesPerSecond", int)  # "64 KiB/s"
Status = NewType("Status", int)  # 200..599
Level = NewType("Level", object)  # a RateText for open load, connections for closed load
CodeName = NewType("CodeName", str)  # "NOT_FOUND", a gRPC status code
MessageText = NewType("MessageText", object)  # a table, or JSON in a text
HeaderText = NewType("HeaderText", str)  # perhaps a secret
Shape = NewType("Shape", str)  # a word of SHAPES
Version = NewType("Version", int)

VERSION: int = 1
SECOND: int = 1_000_000_000
MIB: int = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec:
    """`[target.tls]`; `ca_file` is relative to the scenario and travels with the plan.

    Certificate and key of a client stay on each engine's host and are read there, from
    the folder that the agent was started in.
    """

    verify: bool = True
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One entry of `target.nodes`: a table, or just its URL.

    `grpc` is the URL of its gRPC port, where that is another than that of `url`.
    """

    url: Url
    grpc: Url | None = None
    name: Name | None = None
    weight: Weight = Weight(1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """`[target]`."""

    nodes: tuple[NodeSpec, ...]
    tls: TlsSpec | None = None
    version_path: UrlPath | None = None
    max_rate: PerSecond | None = None  # None: twice the plan's peak
    response_limit: SizeBytes = SizeBytes(MIB)
    connect_timeout: PositiveNs = PositiveNs(2 * SECOND)
    connect_rate: PerSecond = PerSecond(2000.0)
    protocol: Protocol = Protocol.HTTP1  # of requests that call no gRPC method
    # Of HTTP/2: a PING after so long without a frame. None: never, because a server may
    # close a connection that pings it more often than it likes (gRPC, "Keepalive").
    keepalive: PositiveNs | None = None
    authority: str | None = None  # of HTTP/2; None: the node's host and port


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """`[load]`; limits are totals over the run."""

    connections: Whole | None = None
    model: LoadModel = LoadModel.OPEN
    baseline: Name | None = None
    rate: RateText | None = None  # of hold stages that name none
    arrivals: ArrivalProcess = ArrivalProcess.CONSTANT
    seed: int = 1
    channels: Whole | None = None  # HTTP/2 connections; None: 4 a node, or as levels need
    streams: Whole = Whole(100)  # a channel; no server should allow fewer (RFC 9113, 6.5.2)
    in_flight: Whole | None = None  # None: as many as connections and channels can carry
    backlog: Whole | None = None  # None: as many as in_flight
    pipelining: Whole = Whole(1)
    think_time: DurationNs = DurationNs(0)
    warm_up: tuple[Name, ...] = ()
    grace: DurationNs = DurationNs(10 * SECOND)
    loss_policy: LossPolicy = LossPolicy.ABORT
    bins: bool = False  # of 100 ms, beside windows; on by itself where an objective needs them


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSpec:
    """One of `[[feeds]]`: a CSV file with a header line."""

    name: Name
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """One of a request's `checks`: exactly one of contains, pointer + equals, max_bytes."""

    contains: str | None = None
    pointer: str | None = None
    equals: str | int | float | bool | None = None
    max_bytes: SizeBytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """One of `[[requests]]`."""

    name: Name
    path: str
    method: str = "GET"
    headers: Mapping[str, HeaderText] = field(default_factory=dict)
    body: str | None = None
    body_file: str | None = None
    weight: Weight = Weight(1.0)
    expected_statuses: tuple[Status, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    timeout: PositiveNs = PositiveNs(10 * SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpec:
    """One of `[[requests]]` that calls a gRPC method: its `method` is `pkg.Service/Method`."""

    name: Name
    method: str
    message: MessageText | None = None  # None, and no file: an empty message
    message_file: str | None = None
    metadata: Mapping[str, HeaderText] = field(default_factory=dict)
    compression: Compression = Compression.IDENTITY
    weight: Weight = Weight(1.0)
    expected_codes: tuple[CodeName, ...] = (CodeName("OK"),)
    checks: tuple[str, ...] = ()
    timeout: PositiveNs = PositiveNs(10 * SECOND)  # the deadline of the call
    messages: Whole | None = None  # on a stream of the client's
    pace: DurationNs | None = None


AnyRequestSpec = RequestSpec | CallSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSpec:
    """`[grpc]`: where the types come from; exactly one of protos, descriptor_set, reflection."""

    protos: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()  # folders of imports; none: the folders of the protos
    descriptor_set: str | None = None
    reflection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSpec:
    """`shape = "hold"`, the default: one level."""

    name: Name
    duration: DurationNs
    shape: Shape = Shape("hold")
    judged: bool = True
    rate: RateText | None = None
    connections: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RampSpec:
    """`shape = "ramp"`: linear from one level to another."""

    name: Name
    duration: DurationNs
    from_: Level
    to: Level
    shape: Shape = Shape("ramp")
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """`shape = "step"`: equal levels of equal length, both ends included."""

    name: Name
    duration: DurationNs
    from_: Level
    to: Level
    steps: Whole
    shape: Shape = Shape("step")
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeSpec:
    """`shape = "spike"`: a base level with one peak."""

    name: Name
    duration: DurationNs
    base: Level
    peak: Level
    peak_start: DurationNs
    peak_duration: DurationNs
    shape: Shape = Shape("spike")
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SineSpec:
    """`shape = "sine"`: a wave around a mean."""

    name: Name
    duration: DurationNs
    mean: Level
    amplitude: Level
    period: DurationNs
    shape: Shape = Shape("sine")
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapelessSpec:
    """A stage whose `shape` is no known word: each key that some shape has, none required."""

    shape: Shape
    name: Name
    duration: DurationNs
    judged: bool = True
    rate: RateText | None = None
    connections: Whole | None = None
    from_: Level | None = None
    to: Level | None = None
    steps: Whole | None = None
    base: Level | None = None
    peak: Level | None = None
    peak_start: DurationNs | None = None
    peak_duration: DurationNs | None = None
    mean: Level | None = None
    amplitude: Level | None = None
    period: DurationNs | None = None


StageSpec = HoldSpec | RampSpec | StepSpec | SpikeSpec | SineSpec | ShapelessSpec

SHAPES: Mapping[str, type[StageSpec]] = {
    "hold": HoldSpec,
    "ramp": RampSpec,
    "step": StepSpec,
    "spike": SpikeSpec,
    "sine": SineSpec,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CriteriaSpec:
    """`[criteria]`: texts of the grammar in `objectives.py`."""

    objectives: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    aborts: tuple[str, ...] = ()
    slo: Ratio | None = None  # of requests that do not fail; its rest is the error budget
    slo_window_days: Whole = Whole(30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadySpec:
    """`[failover.steady_state]`."""

    for_: PositiveNs = PositiveNs(10 * SECOND)
    within: PositiveNs = PositiveNs(60 * SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderSpec:
    """`[failover.leader]`: what is asked of each node's URL."""

    path: UrlPath
    pointer: str
    method: str = "GET"
    body: str = ""
    own: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HaproxySpec:
    """`[failover.haproxy]`: its runtime socket, and its checks as in its configuration.

    Defaults are HAProxy's own.
    """

    admin: str = ""
    inter: PositiveNs = PositiveNs(2 * SECOND)
    fastinter: PositiveNs | None = None  # None: as `inter`
    check_timeout: PositiveNs | None = None  # None: as `inter`
    fall: Whole = Whole(3)
    rise: Whole = Whole(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultNodeSpec:
    """One of `[[failover.nodes]]`."""

    name: Name
    zone: Name | None = None
    url: Url | None = None
    voter: bool = True
    pid_file: str = ""
    start: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    namespace: str = ""
    interface: str = ""
    proxy: str = ""
    version: Name | None = None
    behaviour: str = ""  # of a node of the embedded cluster, see cluster/behaviour.py


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPhaseSpec:
    """One of `[[failover.rollout.phases]]`."""

    traffic: Ratio
    hold: PositiveNs
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """`[failover.rollout]`, see `rollout.py`."""

    to: Name
    every: PositiveNs = PositiveNs(30 * SECOND)
    window: PositiveNs = PositiveNs(300 * SECOND)
    sustain: PositiveNs = PositiveNs(300 * SECOND)
    gap: PositiveNs = PositiveNs(60 * SECOND)
    floor: tuple[str, ...] = ()
    path: UrlPath = UrlPath("/q/metrics")
    timers: tuple[str, ...] = (
        "http_server_requests_seconds",
        "grpc_server_processing_duration_seconds",
    )
    ignore: str = "/q/"
    timeout: PositiveNs = PositiveNs(30 * SECOND)
    phases: tuple[RolloutPhaseSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """One of `[[failover.faults]]`."""

    name: Name
    action: Name
    on: str
    at: DurationNs | None = None  # from T0; with `after` from when that was over
    after: Name | None = None
    when: str | None = None  # a condition, see faults.py
    undo_after: DurationNs | None = None  # None: at the end of the run
    latency: PositiveNs | None = None
    bandwidth: BytesPerSecond | None = None
    weight: Percent | None = None
    command: tuple[str, ...] = ()
    undo_command: tuple[str, ...] = ()
    verify_command: tuple[str, ...] = ()
    timeout: PositiveNs = PositiveNs(30 * SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverSpec:
    """`[failover]`: who the nodes are, what is done to them, and what is expected."""

    system: System = System.OWN
    quorum: Quorum = Quorum.NONE
    election: DurationNs = DurationNs(0)
    health: UrlPath | None = None
    steady_state: SteadySpec = field(default_factory=SteadySpec)
    leader: LeaderSpec | None = None
    haproxy: HaproxySpec | None = None
    nodes: tuple[FaultNodeSpec, ...]
    faults: tuple[FaultSpec, ...] = ()
    rollout: RolloutSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMeasureSpec:
    """`[server.measures.NAME]`: texts of the grammar in `server_metrics.py`, or PromQL."""

    unit: ServerUnit
    series: tuple[str, ...] = ()  # the first that a node has counts
    query: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """`[server]`: the target's own metrics, of every node or of a Prometheus server."""

    path: UrlPath | None = None  # None: Quarkus' /q/metrics
    port: Whole | None = None  # None: that of the node's URL
    prometheus: Url | None = None
    node_label: str | None = None  # None: instance
    every: PositiveNs | None = None  # None: 5 s, of a Prometheus server 15 s
    timeout: PositiveNs | None = None  # None: four fifths of `every`
    response_limit: SizeBytes = SizeBytes(4 * MIB)
    headers: Mapping[str, HeaderText] = field(default_factory=dict)
    measures: Mapping[Name, ServerMeasureSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReadSpec:
    """`[audit.read]`."""

    path: UrlPath
    method: str = "GET"
    headers: Mapping[str, HeaderText] = field(default_factory=dict)
    body: str | None = None
    copies: str | None = None
    present: tuple[Status, ...] = (Status(200),)
    absent: tuple[Status, ...] = (Status(404),)
    over: ReadOver = ReadOver.TARGET


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec:
    """`[audit]`, see `audit.py`."""

    request: Name
    id: str
    read: AuditReadSpec
    timeout: PositiveNs = PositiveNs(2 * SECOND)
    rate: PerSecond = PerSecond(500.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole file; where it has mistakes, stand-ins are in it."""

    version: Version
    name: Name
    description: str = ""
    target: TargetSpec
    baselines: Mapping[Name, PerSecond] = field(default_factory=dict)
    load: LoadSpec
    feeds: tuple[FeedSpec, ...] = ()
    grpc: GrpcSpec | None = None
    server: ServerSpec | None = None
    requests: tuple[AnyRequestSpec, ...]
    stages: tuple[StageSpec, ...]
    criteria: CriteriaSpec = field(default_factory=CriteriaSpec)
    failover: FailoverSpec | None = None
    audit: AuditSpec | None = None

    @property
    def request_names(self) -> tuple[str, ...]:
        """Names of requests, as written; "" for one that is no text."""
        return tuple(request.name for request in self.requests)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of stages, as written; "" for one that is no text."""
        return tuple(stage.name for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """Files that a scenario names, read: bodies and messages by the request's index.

    `descriptors` is a FileDescriptorSet with the types of `[grpc]`; None without one, or
    with mistakes in it, which are known.
    """

    bodies: Mapping[int, bytes]
    messages: Mapping[int, str]
    feeds: tuple[Feed, ...]
    ca_pem: str | None
    descriptors: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFile:
    """A scenario that holds together: decoded, its files read, checked at scale 1."""

    path: Path
    text: str
    document: Document
    attachments: Attachments
