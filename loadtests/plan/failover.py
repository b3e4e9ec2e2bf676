"""The nouns of a failover, as frozen values: nodes in zones, faults, when and on whom.

A scenario's `[failover]` is decoded (`spec.py`) and checked (`faults.py`) into a
`Failover`, which travels in the plan. `ACTIONS` says what each built-in action needs to
know of a node and which settings it takes; a user's own action may take any.

Times are nanoseconds; offsets count from T0, or from the end of another fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit


class System(Enum):
    """Whose the target is: the user's, or one that the harness starts and stops."""

    OWN = "own"
    EMBEDDED = "embedded"


class Quorum(Enum):
    """What the nodes need of each other to go on."""

    NONE = "none"  # one node is enough
    MAJORITY = "majority"  # of the voters, as in Raft


class Chosen(Enum):
    """Whom a fault strikes."""

    LEADER = "leader"
    FOLLOWER = "follower"
    RANDOM = "random"
    NODE = "node"
    ZONE = "zone"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """`count` nodes of a kind; `name` of the node or zone, "" for the other kinds."""

    chosen: Chosen
    name: str
    count: int

    def __str__(self) -> str:
        if self.name:
            return f"{self.chosen.value} {self.name}"
        return self.chosen.value if self.count == 1 else f"{self.count} {self.chosen.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultNode:
    """One node and what is known of how to reach into it; empty: not known.

    `start` is a command that starts it and returns; `servers` are its names in HAProxy,
    "backend/server"; `namespace` a network namespace by name or path; `proxy` the control
    socket of the fault proxy before it. `owner_pid` is the process that started a node of the
    harness and takes it along when it ends; 0 for nodes of the user's own. `behaviour` is how a
    node of the embedded cluster misbehaves on purpose.
    """

    name: str
    zone: str
    url: str
    is_voter: bool
    pid_file: str
    start: tuple[str, ...]
    servers: tuple[str, ...]
    namespace: str
    interface: str
    proxy: str
    owner_pid: int
    version: str = ""  # archives of before there were rollouts have none, nor the next
    behaviour: str = ""

    @property
    def host(self) -> str:
        """Host of its URL, "" without one."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parameters of an action; 0 and () where it has none."""

    latency_ns: int
    bytes_per_s: int
    weight_percent: int
    command: tuple[str, ...]
    undo_command: tuple[str, ...]
    verify_command: tuple[str, ...]
    timeout_ns: int  # of each command, and of a step's being seen
    server_weight: int = 0  # of a rollout's strikes, as HAProxy has it: 0..256


class ConditionKind(Enum):
    """What a fault can wait for besides the time."""

    MEASURE = "measure"  # a condition of the grammar of objectives that is true for a while
    LEADER = "leader is"  # a node
    RECOVERED = "recovered"  # a fault, in force or not: every objective has held since


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`when` of a fault: its text; the node's or fault's name; how long a measure must last."""

    text: str
    kind: ConditionKind
    name: str
    sustain_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, `at_ns` from T0, or from what it waits for.

    That is `after` being gone and the target steady again, or the condition `when` being met.
    `undo_after_ns` from its acknowledged time; None: it stays until the end of the run.
    """

    name: str
    action: str
    on: Selector
    at_ns: int
    after: str | None
    undo_after_ns: int | None
    settings: Settings
    when: Condition | None = None  # archives of before there were conditions have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What a version must not do: more errors than `limit` (0-1), or a later quantile (ns)."""

    text: str
    quantile: float | None  # None: the error ratio
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPhase:
    """A share of the traffic (0-1) that the new version gets for `hold_ns` of known data.

    Any of `triggers` that holds for as long as its rollout says rolls it back.
    """

    traffic_ratio: float
    hold_ns: int
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Traffic moved to the nodes of version `to`, phase by phase; see plan/rollout.py.

    Every `every_ns` the new version's last `window_ns` are held against the phase's triggers;
    one that holds for `sustain_ns` rolls back. Longer than `gap_ns` without data is known.
    """

    to: str
    phases: tuple[RolloutPhase, ...]
    every_ns: int
    window_ns: int
    sustain_ns: int
    gap_ns: int
    metrics_path: str
    timers: tuple[str, ...]  # series with buckets: NAME_bucket, NAME_count
    ignore: str  # requests to paths that begin so are not the service's
    timeout_ns: int  # until weights must be seen to be set


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyState:
    """Every latency and error objective holds for `hold_ns` on end, within `within_ns`."""

    hold_ns: int
    within_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderQuery:
    """How a node is asked who leads: the JSON value at `pointer` is the leader's name.

    With `own` (another pointer) a node leads when both values are equal.
    """

    method: str
    path: str
    body: str
    pointer: str
    own: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Haproxy:
    """Runtime socket (a path or host:port) and health checks of the load balancer.

    https://docs.haproxy.org/2.6/configuration.html#5.2: `inter`, `fastinter` (while a
    server's state is in doubt), `fall`, `rise`, `timeout check`.
    """

    admin: str
    inter_ns: int
    fastinter_ns: int
    check_timeout_ns: int
    fall: int
    rise: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """What is done to whom, and when."""

    system: System
    quorum: Quorum
    election_ns: int  # the longest that choosing a new leader takes; 0: not stated
    health_path: str  # asked of a node's URL; "": not asked
    steady: SteadyState
    leader: LeaderQuery | None
    haproxy: Haproxy | None
    nodes: tuple[FaultNode, ...]
    faults: tuple[Fault, ...]
    rollout: Rollout | None = None  # archives of before there were rollouts have none

    def nodes_of(self, *, is_new: bool) -> tuple[FaultNode, ...]:
        """Nodes of the version that a rollout moves traffic to, or of the one before.

        Without a rollout none is new, whatever its version.
        """
        to = None if self.rollout is None else self.rollout.to
        return tuple(node for node in self.nodes if (node.version == to) is is_new)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Hosts that faults reach: each must be loopback or authorised."""
        hosts = [node.host for node in self.nodes if node.host]
        admin = "" if self.haproxy is None else self.haproxy.admin
        if admin and not admin.startswith("/"):
            hosts.append(admin.rpartition(":")[0].strip("[]"))
        return tuple(dict.fromkeys(hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionNeeds:
    """What an action must know: keys of a node, keys of the fault, whether of HAProxy."""

    node: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    haproxy: bool = False
    is_momentary: bool = False  # over when it was applied: undone at once


ACTIONS: Final[Mapping[str, ActionNeeds]] = {
    "noop": ActionNeeds(is_momentary=True),
    "kill": ActionNeeds(node=("pid_file", "start")),
    "stop": ActionNeeds(node=("pid_file", "start")),
    "pause": ActionNeeds(node=("pid_file",)),
    "restart": ActionNeeds(node=("pid_file", "start"), is_momentary=True),
    "drain": ActionNeeds(node=("servers",), haproxy=True),
    "maintenance": ActionNeeds(node=("servers",), haproxy=True),
    "weight": ActionNeeds(node=("servers",), settings=("weight",), haproxy=True),
    "cut": ActionNeeds(node=("namespace", "interface")),
    "latency": ActionNeeds(node=("proxy",), settings=("latency",)),
    "bandwidth": ActionNeeds(node=("proxy",), settings=("bandwidth",)),
    "reset": ActionNeeds(node=("proxy",)),
    "black-hole": ActionNeeds(node=("proxy",)),
    "half-open": ActionNeeds(node=("proxy",)),
    "exec": ActionNeeds(settings=("command",), optional=("undo_command", "verify_command")),
}


def static_choice(selector: Selector, nodes: Sequence[FaultNode]) -> tuple[FaultNode, ...]:
    """All nodes that a selector can strike, whoever leads and whatever is drawn."""
    match selector.chosen:
        case Chosen.NODE:
            return tuple(node for node in nodes if node.name == selector.name)
        case Chosen.ZONE:
            return tuple(node for node in nodes if node.zone == selector.name)
        case _:
            return tuple(nodes)


def struck_count(selector: Selector, nodes: Sequence[FaultNode]) -> int:
    """How many nodes it strikes."""
    if selector.chosen in {Chosen.NODE, Chosen.ZONE, Chosen.ALL}:
        return len(static_choice(selector, nodes))
    return selector.count
