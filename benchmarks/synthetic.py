"""Windows as a real run fills them, made without a run: for the archive and the fan-in.

Latencies are log-normal (median 8 ms, a tail to some 100 ms, each endpoint a little
slower than the one before), send lags around 40 us: the spread over buckets, which is
what decoding and merging cost, is that of a service under load. The sums obey the
conservation laws and every window has its engine's health.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.window import (
    Count,
    EngineHealth,
    Hiccup,
    Kind,
    Window,
)

ENDPOINTS = 10  # of an archive
MASTER_ENDPOINTS = 20  # of what a master with many agents takes in
_MEDIAN_NS = 8e6
_SIGMA = 0.6
_LAG_MEDIAN_NS = 40e3
_LAG_SIGMA = 0.5
_BYTES_SENT = 150
_BYTES_RECEIVED = 400
_S = 1_000_000_000


def endpoint_names(endpoints: int = ENDPOINTS) -> tuple[str, ...]:
    """Name the requests."""
    return tuple(f"endpoint {number}" for number in range(1, endpoints + 1))


def _sparse(key: int, values_ns: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    buckets, counts = np.unique(buckets_of_ns(values_ns.astype(np.int64)), return_counts=True)
    return buckets + key * LENGTH, counts


def synthetic_window(
    *,
    start_s: int,
    requests_per_endpoint: int,
    engine: str,
    seed: int,
    has_hiccup: bool,
    endpoints: int = ENDPOINTS,
) -> Window:
    """One second in which every endpoint answered so many requests, all ok."""
    random = np.random.default_rng(seed)
    keys, counts, service_total_ns = [], [], 0.0
    for slot in range(endpoints):
        median_ns = _MEDIAN_NS * (1 + slot / endpoints)
        service = random.lognormal(np.log(median_ns), _SIGMA, requests_per_endpoint)
        lag = random.lognormal(np.log(_LAG_MEDIAN_NS), _LAG_SIGMA, requests_per_endpoint)
        service_total_ns += float(service.sum())
        kinds = {Kind.RESPONSE: service + lag, Kind.SERVICE: service, Kind.SEND_LAG: lag}
        for kind in sorted(kinds):
            found_keys, found_counts = _sparse(slot * len(Kind) + kind, kinds[kind])
            keys.append(found_keys)
            counts.append(found_counts)
    counters = np.zeros((endpoints, len(Count)), dtype=np.int64)
    counters[:, [Count.PLANNED, Count.SENT, Count.OK]] = requests_per_endpoint
    counters[:, Count.BYTES_SENT] = requests_per_endpoint * _BYTES_SENT
    counters[:, Count.BYTES_RECEIVED] = requests_per_endpoint * _BYTES_RECEIVED
    health = EngineHealth(
        engine=engine,
        wall_ns=_S,
        cpu_ns=_S // 4,
        in_flight=0,
        in_flight_ns=round(service_total_ns),
        backlog=0,
        connections=512,
        stalled_ns=200_000,
    )
    agent = engine.partition("/")[0]
    hiccup = Hiccup(agent=agent, ticks=1000, p50_ns=50_000, p99_ns=120_000, max_ns=400_000)
    return Window(
        start_s=start_s,
        slots=np.arange(endpoints, dtype=np.uint32),
        counters=counters,
        keys=np.concatenate(keys).astype(np.uint32),
        counts=np.concatenate(counts).astype(np.int64),
        errors={},
        messages={},
        health=(health,),
        hiccups=(hiccup,) if has_hiccup else (),
    )
