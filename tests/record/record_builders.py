"""Builds small honest runs for the tests of the record room: one good one, to be mutated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from loadtests.record.facts import host_facts
from loadtests.record.histogram import LENGTH, buckets_of_ns
from loadtests.record.manifest import (
    SCHEMA_VERSION,
    AgentFacts,
    EngineSums,
    LostWindow,
    Manifest,
    Outcome,
    StageFacts,
    Sums,
)
from loadtests.record.window import (
    CONNECTION,
    Count,
    EngineHealth,
    Hiccup,
    Kind,
    SlotSpace,
    Window,
)

T0_S = 1_790_000_000
PLAN = b"\x93plan bytes, opaque here\x00\xff"
RUN_ID = "20260923T010640Z_smoke_0123abcd"
SUMS = Sums(planned=0, sent=0, dropped=0, ok=0, client_error=0, failed=0, in_flight_at_stop=0)


def good_manifest() -> Manifest:
    """A draft: warm-up of 2 s, then a judged stage of 4 s, two requests, two nodes."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=RUN_ID,
        scenario_name="smoke",
        scenario_text='version = 1\nname = "smoke"\n',
        plan_sha256="",
        seed=7,
        scale=0.01,
        load_model="open",
        t0_unix_ns=T0_S * 1_000_000_000,
        created_unix_ns=(T0_S - 2) * 1_000_000_000,
        finished_unix_ns=None,
        stages=(
            StageFacts(name="warm-up", start_ns=0, end_ns=2_000_000_000, is_judged=False),
            StageFacts(
                name="steady", start_ns=2_000_000_000, end_ns=6_000_000_000, is_judged=True
            ),
        ),
        requests=("GET /info, all", "POST tx", CONNECTION),
        nodes=("n1", "n2"),
        command=("headroom", "run", "scenarios/smoke.toml"),
        host=host_facts(),
        versions={"headroom": "0.1.0"},
        git_commit=None,
        target_version=None,
        agents=(
            AgentFacts(
                agent="a1", incarnation="i1", host=host_facts(), engines=1, clock_offset_ns=-1500,
                round_trip_ns=90_000, has_final=True, versions={}, warnings=(),
            ),
        ),
        engine_sums=(EngineSums(agent="a1", engine="a1/0", has_final=True, sums=SUMS),),
        total_sums=None,
        lost_windows=(LostWindow(who="a2/1", from_s=T0_S, to_s=T0_S + 1, planned=5),),
        warnings=(),
        outcome=Outcome.RUNNING,
        outcome_reason="",
        events=0,
        checksums={},
    )  # fmt: skip


def finished(manifest: Manifest) -> Manifest:
    """The same run, complete."""
    return replaced(
        manifest, outcome=Outcome.COMPLETE, finished_unix_ns=(T0_S + 8) * 1_000_000_000,
        total_sums=SUMS,
    )  # fmt: skip


def replaced(manifest: Manifest, **changes: object) -> Manifest:
    """A manifest with one thing changed."""
    return msgspec.structs.replace(manifest, **changes)


def window_of(
    start_s: int,
    slots: SlotSpace,
    rng: np.random.Generator,
    *,
    wanted: Iterable[int] | None = None,
    samples: int = 50,
    overflow: int = 0,
) -> Window:
    """A second in which every wanted slot sent `samples`: most ok, one in ten failed."""
    numbers = sorted(range(len(slots)) if wanted is None else wanted)
    counters = np.zeros((len(numbers), len(Count)), dtype=np.int64)
    keys: list[np.ndarray] = []
    errors, messages = {}, {}
    for row, slot in enumerate(numbers):
        bad = samples // 10
        for kind in Kind:
            n = {Kind.FAILED_RESPONSE: bad, Kind.FAILED_SERVICE: bad, Kind.CONNECT: 2}.get(
                kind, samples - bad
            )
            n = samples if kind is Kind.SEND_LAG else n
            buckets = buckets_of_ns(rng.lognormal(15, 1, n).astype(np.int64))
            if kind is Kind.RESPONSE and overflow:
                buckets[:overflow] = LENGTH - 1
            keys.append((slot * len(Kind) + kind) * LENGTH + buckets)
        counters[row, [Count.PLANNED, Count.SENT, Count.OK, Count.FAILED]] = (
            samples, samples, samples - bad, bad,
        )  # fmt: skip
        counters[row, Count.BYTES_RECEIVED] = int(rng.integers(1, 1000))
        if bad:
            errors[slot, "status_503"] = bad
            messages[slot, "status_503"] = f"503 from slot {slot}"
    labels, counts = np.unique(np.concatenate(keys), return_counts=True)
    return Window(
        start_s=start_s,
        slots=np.array(numbers, dtype=np.uint32),
        counters=counters,
        keys=labels.astype(np.uint32),
        counts=counts.astype(np.int64),
        errors=errors,
        messages=messages,
        health=(
            EngineHealth(
                engine="a1/0", wall_ns=10**9, cpu_ns=3 * 10**8, in_flight=4, in_flight_ns=4 * 10**9,
                backlog=0, connections=16, stalled_ns=1000,
            ),
        ),
        hiccups=(Hiccup(agent="a1", ticks=1000, p50_ns=50, p99_ns=900, max_ns=1900),),
    )  # fmt: skip


def only_slots(window: Window, start_s: int) -> Window:
    """The window under another label and without host rows."""
    return dataclasses.replace(window, start_s=start_s, health=(), hiccups=())


def files_of(path: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
