"""200 seeded fault runs: no unaccounted request, no false PASS, load ends within the lease.

A quarter is real (`fault_runs.py`), three quarters are schedules of the virtual swarm, whose
network drops, repeats, reorders and cuts. `HEADROOM_FAULT_SEED=17` plays that one alone;
`HEADROOM_REAL_FAULT_RUNS=200` plays so many real ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from counting_target import ABANDONED
from fault_runs import FAULTS, HARMLESS, LEASE_S, RATE, REFUSED, Evidence, play
from side_by_side import SideBySide, archived, lost_planned
from test_core_simulation import run_seed

from analysis.judging import State
from analysis.verdict import judge
from loadtests.clock import NS_PER_S
from loadtests.commands.judgement import exit_code_of
from loadtests.record.archive import verify
from loadtests.record.manifest import Outcome

pytestmark = [pytest.mark.system, pytest.mark.faults, pytest.mark.timeout(1800)]

RUNS = 200
REAL = int(os.environ.get("HEADROOM_REAL_FAULT_RUNS", "48"))
ONE = os.environ.get("HEADROOM_FAULT_SEED")
SEEDS = [int(ONE)] if ONE else list(range(REAL))
VIRTUAL_FROM = 500_000  # seeds that `make test` does not play
AT_A_TIME = 5

Play = Callable[[int], Evidence]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Plays all seeds, some at a time."""
    folder = tmp_path_factory.mktemp("seeds")
    runs = SideBySide(SEEDS, lambda seed: play(seed, folder / f"{seed}"), AT_A_TIME)
    yield runs.evidence
    runs.close()


def check_load_ended(seen: Evidence, what: str) -> None:
    """Within the lease and one second of a lost master, and of an agent that was given up.

    A lost agent's arrivals are one engine's, every second one, until somebody takes them over.
    """
    received_ns, limit_ns = seen.requests["received_ns"], (LEASE_S + 1) * NS_PER_S
    ended_ns = seen.marks.get("killed", seen.marks["ended"])
    assert received_ns.max() <= ended_ns + limit_ns, what
    told = {event.kind: event for event in reversed(seen.run.events)}  # the first of each kind
    if "agent_lost" not in told:
        return
    lost_ns = seen.marks.get("lost", told["agent_lost"].at_unix_ns)
    after = seen.requests[received_ns > lost_ns + limit_ns]
    if "takeover" in told:
        taken_s = int(told["takeover"].text.rsplit(" ", 1)[1])
        after = after[after["number"] < taken_s * RATE]
    assert (after["number"] % 2).nunique() <= (seen.policy != "abort"), what


@pytest.mark.parametrize("seed", SEEDS)
def test_a_real_run_accounts_for_every_request(played: Play, seed: int) -> None:
    """Target, archive, verdict, exit code and processes, whatever was done to whom."""
    seen = played(seed)
    what = f"HEADROOM_FAULT_SEED={seed} {seen.fault}, {seen.policy}\n{seen.text}"
    manifest = seen.run.manifest
    sent, ok, lost = archived(seen, "sent"), archived(seen, "ok"), lost_planned(seen)
    assert seen.survivors == (), what
    # Locust's own monitor of CPU, a greenlet beside ours, dies aloud where it cannot read /proc.
    is_locusts = seen.text.count("Traceback") == seen.text.count("in monitor_cpu_and_memory")
    assert "Traceback" not in seen.text or (seen.fault == "no descriptors" and is_locusts), what
    assert seen.requests["number"].is_unique, what
    assert ok <= int((seen.requests["replied_ns"] != ABANDONED).sum()), what
    verdict = judge(seen.run)
    if seen.run.is_complete:
        assert verify(seen.run.path) == (), what
        assert len(seen.requests) <= sent + lost, what
        assert seen.master_code == exit_code_of(manifest.outcome, verdict.state), what
    if manifest.outcome is Outcome.COMPLETE:
        assert int(seen.run.windows["planned"].sum()) + lost == seen.arrivals, what
    if verdict.state is State.PASS:
        assert len(seen.requests) == ok == seen.arrivals, what
    if seen.fault in HARMLESS:
        assert manifest.outcome is Outcome.COMPLETE, what
        assert len(seen.requests) == sent == seen.arrivals, what
    if seen.fault in REFUSED:
        assert any(REFUSED[seen.fault] in event.text for event in seen.run.events), what
    if not seen.run.is_complete:
        assert verdict.state is State.INCONCLUSIVE, what
        assert seen.master_code != 0, what
    check_load_ended(seen, what)
    if seen.fault == "kill master":
        assert verdict.state is State.INCONCLUSIVE, what
        assert sent >= RATE // 2 or len(seen.requests) < 2 * RATE * (LEASE_S + 3), what


def test_every_fault_was_played() -> None:
    """The real seeds reach every fault of the list."""
    if ONE is None and len(FAULTS) <= REAL:
        assert {seed % len(FAULTS) for seed in SEEDS} == set(range(len(FAULTS)))


def test_virtual_runs_account_for_every_request() -> None:
    """The rest of the 200, and ten times as many, in virtual time."""
    count = max(0, RUNS - REAL) * 10
    ends = Counter(run_seed(VIRTUAL_FROM + number) for number in range(count))
    assert sum(ends.values()) == count
