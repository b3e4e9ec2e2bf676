"""What a version does, as its nodes measured it: errors and quantiles of a rollout's last window.

Read from each node's page of metrics: the counters and the buckets of its timers. A quantile is
known to lie between two bounds of buckets, so a limit is certainly passed, certainly not, or not
told apart. Nothing is good on too few requests, of an error ratio as of a quantile: the zero-late
rule of objectives. Errors are too many on too few requests only when they would be so had the
missing ones all been good. What is not known is never good.
"""

from __future__ import annotations

import http.client
import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from loadtests.clock import NS_PER_S
from loadtests.failover.asking import MOST_BYTES, ask
from loadtests.plan.failover import FaultNode, Rollout, Trigger
from loadtests.plan.objectives import required_samples

_TIMEOUT_S: Final = 2.0
_OK_STATUS: Final = "123"  # of HTTP, the first digit; policy.md: errors are 4xx and 5xx


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Requests of a node since its start, or of nodes in a window; `buckets` are cumulative."""

    requests: int
    errors: int
    buckets: Mapping[float, int]  # requests up to so many seconds

    def since(self, other: Counted) -> Counted | None:
        """What was added; None when the node has begun anew."""
        buckets = {le: n - other.buckets.get(le, 0) for le, n in self.buckets.items()}
        requests, errors = self.requests - other.requests, self.errors - other.errors
        if requests < 0 or errors < 0 or any(n < 0 for n in buckets.values()):
            return None
        return Counted(requests=requests, errors=errors, buckets=buckets)

    def quantile_ns(self, quantile: float) -> tuple[float, float] | None:
        """The bounds that it lies between, `(above, up to]`; None without buckets."""
        bounds = sorted(self.buckets)
        totals = [self.buckets[bound] for bound in bounds]
        if not totals or totals[-1] < self.requests or self.requests == 0:
            return None
        place = bisect_left(totals, math.ceil(round(quantile * self.requests, 6)))
        below = bounds[place - 1] if place else 0.0
        return below * NS_PER_S, bounds[place] * NS_PER_S


def sum_counts(parts: Sequence[Counted]) -> Counted:
    """All of them together; only bounds that all of them have."""
    busy = [part for part in parts if part.requests]
    bounds = set.intersection(*(set(part.buckets) for part in busy)) if busy else set()
    return Counted(
        requests=sum(part.requests for part in busy),
        errors=sum(part.errors for part in busy),
        buckets={bound: sum(part.buckets[bound] for part in busy) for bound in bounds},
    )


def read_counts(page: str, timers: Sequence[str], ignore: str) -> Counted:
    """The service's requests on a page of metrics; ValueError when it is none."""
    wanted = tuple(f"{timer}_{part}" for timer in timers for part in ("bucket", "count"))
    lines = [line for line in page.splitlines() if line.startswith(wanted)]
    requests = errors = 0
    buckets: dict[float, int] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            if ignore and sample.labels.get("uri", "").startswith(ignore):
                continue
            count = int(sample.value)
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0) + count
            else:
                requests += count
                errors += count if _is_error(sample.labels) else 0
    return Counted(requests=requests, errors=errors, buckets=buckets)


def _is_error(labels: Mapping[str, str]) -> bool:
    """By its status, of HTTP or of gRPC."""
    if code := labels.get("statusCode"):
        return code != "OK"
    return labels.get("status", "")[:1] not in _OK_STATUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A version's last window; `unread` nodes said nothing, `down` ones HAProxy does not use.

    `down` is None where HAProxy did not say.
    """

    at_ns: int
    counted: Counted | None  # None: not known
    unread: tuple[str, ...]
    down: tuple[str, ...] | None


class Watch:
    """The counts of a version's nodes over a window."""

    def __init__(self, nodes: Sequence[FaultNode], rollout: Rollout) -> None:
        self.nodes, self._rollout = nodes, rollout
        self._kept: list[tuple[int, dict[str, Counted]]] = []

    def restart(self) -> None:
        """Forget what was before now: another phase has begun."""
        del self._kept[:-1]

    def look(self, at_ns: int, down: Collection[str] | None) -> Look:
        """Ask every node, and hold what it says against the beginning of the window."""
        said, unread = {}, []
        for node in self.nodes:
            try:
                said[node.name] = self._ask(node)
            except (OSError, http.client.HTTPException, ValueError, KeyError, ArithmeticError):
                unread.append(node.name)
        self._forget_begun_anew(said)
        self._kept.append((at_ns, said))
        older = [n for n, (at, _) in enumerate(self._kept) if at <= at_ns - self._rollout.window_ns]
        del self._kept[: older[-1] if older else 0]
        counted = None if unread else self._window(said)
        own = None if down is None else tuple(n.name for n in self.nodes if n.name in down)
        return Look(at_ns=at_ns, counted=counted, unread=tuple(unread), down=own)

    def _forget_begun_anew(self, said: Mapping[str, Counted]) -> None:
        """A node that was restarted counts from nothing again: so does its window."""
        for name, counted in said.items():
            earlier = [kept for _, kept in self._kept if name in kept]
            if earlier and counted.since(earlier[-1][name]) is None:
                for kept in earlier:
                    del kept[name]

    def _ask(self, node: FaultNode) -> Counted:
        status, body = ask(node.url, self._rollout.metrics_path, _TIMEOUT_S)
        if status != http.client.OK:
            raise ValueError(f"status {status}")
        if len(body) >= MOST_BYTES:
            raise ValueError("a page that was cut off")  # what is missing would be taken for less
        return read_counts(body.decode(), self._rollout.timers, self._rollout.ignore)

    def _window(self, now: Mapping[str, Counted]) -> Counted:
        """What was added in the window, of each node as far back as it is known."""
        parts = []
        for name, counted in now.items():
            first = next(kept[name] for _, kept in self._kept if name in kept)
            added = counted.since(first)
            assert added is not None, "those that began anew were forgotten"
            parts.append(added)
        return sum_counts(parts)


def judge_trigger(trigger: Trigger, counted: Counted) -> bool | None:
    """Whether it is pulled; None: too few requests, or not told apart from its limit."""
    if trigger.quantile is None:
        fewest = required_samples(1 - trigger.limit)
        if counted.errors / max(counted.requests, fewest) > trigger.limit:
            return True
        return False if counted.requests >= fewest else None
    if counted.requests < required_samples(trigger.quantile):
        return None
    between = counted.quantile_ns(trigger.quantile)
    if between is None:
        return None
    if between[0] >= trigger.limit:
        return True
    return False if between[1] <= trigger.limit else None
