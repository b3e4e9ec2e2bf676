"""How long `headroom show` takes on the archive of one hour with ten endpoints.

The archive is written by the real archive writer from synthetic windows (3,600 seconds,
ten endpoints, 20,000 requests a second) and holds objectives, so that showing it loads,
checks and judges all of it. Measured is the whole command, start of Python included.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.machine import GENERATOR_CORE
from benchmarks.plans import build_plan, mix_of_five
from benchmarks.process import spawn
from benchmarks.synthetic import ENDPOINTS, endpoint_names, synthetic_window
from loadtests.errors import ExitCode, HarnessError
from loadtests.plan.codec import encode_plan, plan_hash
from loadtests.plan.model import LoadModel, Plan
from loadtests.plan.objectives import parse_objective
from loadtests.record.archive import ArchiveWriter, create_archive, new_run_id
from loadtests.record.facts import host_facts, package_versions
from loadtests.record.manifest import (
    SCHEMA_VERSION,
    AgentFacts,
    EngineSums,
    Manifest,
    Outcome,
    StageFacts,
    Sums,
)
from loadtests.record.window import Window

_REQUESTS_PER_ENDPOINT = 2_000  # a second
_DISTINCT = 60  # windows that differ; they repeat every minute
_T0_UNIX_S = 1_790_000_000
_S = 1_000_000_000
_AGENT = "agent-1"
_ENGINE = f"{_AGENT}/0"
_END_S = 120.0
_OBJECTIVES = ("p95 < 200 ms", "p99 < 500 ms", "error_ratio < 0.1 %", "throughput >= 19000 rps")
_VERDICTS = (ExitCode.PASS, ExitCode.FAIL, ExitCode.INCONCLUSIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowSample:
    """Showing one archive several times."""

    windows: int
    endpoints: int
    requests: int
    archive_bytes: int
    write_s: float  # of the whole archive, by its writer
    show_s: tuple[float, ...]
    exit_code: int


def _plan(seconds: int) -> Plan:
    get = mix_of_five()[0]
    requests = tuple(
        dataclasses.replace(get, name=name, path=f"/{number}", weight=1.0)
        for number, name in enumerate(endpoint_names())
    )
    plan = build_plan(
        port=9,
        model=LoadModel.OPEN,
        requests=requests,
        level=_REQUESTS_PER_ENDPOINT * ENDPOINTS,
        seconds=seconds,
        connections=512,
    )
    return dataclasses.replace(plan, objectives=tuple(map(parse_objective, _OBJECTIVES)))


def _sums(seconds: int) -> Sums:
    total = _REQUESTS_PER_ENDPOINT * ENDPOINTS * seconds
    return Sums(
        planned=total,
        sent=total,
        dropped=0,
        ok=total,
        client_error=0,
        failed=0,
        in_flight_at_stop=0,
    )


def _manifest(plan: Plan, seconds: int) -> Manifest:
    """Describe the finished run; its draft differs in the outcome alone."""
    encoded = encode_plan(plan)
    sums = EngineSums(agent=_AGENT, engine=_ENGINE, has_final=True, sums=_sums(seconds))
    agent = AgentFacts(
        agent=_AGENT,
        incarnation="1",
        host=host_facts(),
        engines=1,
        clock_offset_ns=0,
        round_trip_ns=100_000,
        has_final=True,
        versions=package_versions(),
        warnings=(),
    )
    stages = (
        StageFacts(name=s.name, start_ns=s.start_ns, end_ns=s.end_ns, is_judged=s.is_judged)
        for s in plan.stages
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=new_run_id("benchmark", _T0_UNIX_S * _S),
        scenario_name=plan.scenario_name,
        scenario_text=plan.scenario_text,
        plan_sha256=plan_hash(encoded),
        seed=plan.seed,
        scale=plan.scale,
        load_model=plan.load_model.value,
        t0_unix_ns=_T0_UNIX_S * _S,
        created_unix_ns=(_T0_UNIX_S - 2) * _S,
        finished_unix_ns=(_T0_UNIX_S + seconds + 1) * _S,
        stages=tuple(stages),
        requests=plan.slots.requests,
        nodes=plan.slots.nodes,
        command=("headroom", "run"),
        host=host_facts(),
        versions=package_versions(),
        git_commit=None,
        target_version=None,
        agents=(agent,),
        engine_sums=(sums,),
        total_sums=_sums(seconds),
        lost_windows=(),
        warnings=(),
        outcome=Outcome.COMPLETE,
        outcome_reason="",
        events=0,
        checksums={},
    )


def _distinct_windows() -> list[Window]:
    return [
        synthetic_window(
            start_s=0,
            requests_per_endpoint=_REQUESTS_PER_ENDPOINT,
            engine=_ENGINE,
            seed=seed,
            has_hiccup=True,
        )
        for seed in range(_DISTINCT)
    ]


def write_archive(results: Path, seconds: int) -> Path:
    """Write the synthetic run with the real writer; its folder."""
    plan = _plan(seconds)
    manifest = _manifest(plan, seconds)
    draft = msgspec.structs.replace(
        manifest, outcome=Outcome.RUNNING, finished_unix_ns=None, total_sums=None, engine_sums=()
    )
    writer: ArchiveWriter = create_archive(results, draft, encode_plan(plan))
    windows = _distinct_windows()
    for second in range(seconds):
        window = windows[second % _DISTINCT]
        writer.append_window(dataclasses.replace(window, start_s=_T0_UNIX_S + second))
    return writer.finish(manifest)


def show_sample(*, seconds: int, rounds: int, scratch: Path) -> ShowSample:
    """Write the archive, then show it so many times."""
    begin = time.monotonic()
    archive = write_archive(scratch / "results", seconds)
    write_s = time.monotonic() - begin
    print(f"  archive of {seconds} windows written in {write_s:.1f} s", flush=True)
    start = "from loadtests.cli import console; console()"
    command = [sys.executable, "-c", start, "show", str(archive)]
    durations, code = [], 0
    for _ in range(rounds):
        begin = time.monotonic()
        with spawn("headroom show", command, core=GENERATOR_CORE, scratch=scratch) as child:
            code = child.wait(_END_S)
            durations.append(time.monotonic() - begin)
            if code not in _VERDICTS or not child.output().strip():
                raise HarnessError(
                    where="headroom show",
                    seen=f"exit code {code}: {child.complaint()}",
                    expected="a verdict",
                )
        print(f"  headroom show: {durations[-1]:.2f} s, exit code {code}", flush=True)
    return ShowSample(
        windows=seconds,
        endpoints=ENDPOINTS,
        requests=_sums(seconds).sent,
        archive_bytes=sum(f.stat().st_size for f in archive.rglob("*") if f.is_file()),
        write_s=write_s,
        show_s=tuple(durations),
        exit_code=code,
    )
