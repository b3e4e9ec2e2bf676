"""`headroom demo`: the whole chain on one machine, in under three minutes.

Starts the embedded cluster, finds by a short calibration of each protocol what this machine
can do, runs the three REST load profiles and the first one of gRPC in rehearsal length at
that scale, prints each verdict, archives everything, makes the baseline tables anew and
stops what it started.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from analysis.baselines import record_results
from analysis.verdict import Verdict, merge_states
from loadtests.clock import NS_PER_S
from loadtests.cluster.launch import DISCLAIMER, Cluster
from loadtests.commands.calibrate import (
    SCENARIOS,
    START_TIMEOUT_S,
    calibrate,
    describe,
)
from loadtests.commands.calibration import store_calibration
from loadtests.commands.interrupts import ignoring_after_start
from loadtests.commands.judgement import exit_code_of, judge_and_store, print_run
from loadtests.commands.options import Commands, add_results
from loadtests.commands.preparation import build_plan
from loadtests.commands.run import load_swarm, run_local
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.plan.model import Objective, Plan
from loadtests.plan.rehearsal import rehearse
from loadtests.plan.server_metrics import DISK
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome

# By named baseline; all of gRPC's would take more than the three minutes.
PROFILES: Final = {"rest": ("rest-100", "rest-150", "rest-200"), "grpc": ("grpc-100",)}
WARM_UP_NS: Final = 3 * NS_PER_S
STAGE_NS: Final = 10 * NS_PER_S
# Generator and target share the machine: 200 % is to stay below the rate at which both
# together saturate it, because above that nobody could tell whose limit was met.
PART_OF_SATURATION: Final = 0.3


def add_parser(commands: Commands) -> None:
    """Only where results go."""
    parser = commands.add_parser(
        "demo",
        help="everything once on this machine, in under three minutes",
        description="Starts the embedded cluster, calibrates, runs the REST profiles 100, 150 "
        "and 200 % and gRPC's 100 % scaled to this machine, prints the verdicts and stops "
        "everything.",
        epilog="example: headroom demo",
    )
    add_results(parser)
    parser.set_defaults(execute=execute)


def demo_scale(saturation_per_s: float, baseline_per_s: float) -> float:
    """Scale at which 100 % is a safe part of what this machine can do; two digits, rounded down."""
    scale = saturation_per_s * PART_OF_SATURATION / baseline_per_s
    digit = 10.0 ** (math.floor(math.log10(scale)) - 1)
    return math.floor(scale / digit) * digit


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """The demo's exit code is the merged verdict of its runs."""
    load_swarm()
    terminal.say(DISCLAIMER)
    with Cluster.start(nodes=4) as cluster:
        cluster.wait_ready(START_TIMEOUT_S)
        targets = [f"{node.url},grpc={node.grpc_url}" for node in cluster.nodes]
        for node in cluster.nodes:
            terminal.say(f"started {node.name} at {node.url}, gRPC at {node.grpc_url}")
        terminal.say("calibrating: closed loads at saturation, about 50 s")
        calibration = calibrate(cluster.nodes, terminal)
        store_calibration(calibration)
        terminal.say(describe(calibration))
        plans = [
            plan
            for baseline, cost in (("rest", calibration.http1), ("grpc", calibration.grpc))
            if cost is not None
            for plan in build_plans(baseline, cost.saturation_per_s, targets, terminal)
        ]
        judged = []
        for plan in plans:
            terminal.say(f"running {plan.scenario_name}, {plan.duration_ns / NS_PER_S:.0f} s")
            with ignoring_after_start() as begun:
                outcome = run_local(plan, arguments.results, terminal, begun)
                run, verdict = judge_and_store(outcome.path)
                print_run(terminal, run, verdict, as_json=False)
            if run.manifest.outcome is not Outcome.COMPLETE:
                return exit_code_of(run.manifest.outcome, verdict.state)
            judged.append((run, verdict))
    print_summary(judged, terminal)
    for recorded in record_results(judged, arguments.results):
        if not recorded.is_promoted:
            terminal.say(f"{recorded.run_id} is no baseline: {recorded.reason}")
    terminal.say(f"tables: {arguments.results}/BASELINES.md and .csv; everything is stopped")
    return exit_code_of(Outcome.COMPLETE, merge_states(verdict.state for _, verdict in judged))


def build_plans(
    baseline: str, saturated_per_s: float, targets: Sequence[str], terminal: Terminal
) -> tuple[Plan, ...]:
    """The profiles of a baseline at the scale that calibration allows, in rehearsal length."""
    paths = [SCENARIOS / f"{profile}.toml" for profile in PROFILES[baseline]]
    baselines = dict(build_plan(paths[0], scale=1.0, seed=None, targets=targets).baselines)
    full_per_s = baselines[baseline]
    scale = demo_scale(saturated_per_s, full_per_s)
    terminal.say(
        f"scale {scale:g} of {baseline}: 100 % is {full_per_s * scale:,.0f} of "
        f"{full_per_s:,.0f} requests/s"
    )
    return tuple(
        without_disk(
            rehearse(
                build_plan(path, scale=scale, seed=None, targets=targets),
                warm_up_ns=WARM_UP_NS,
                stage_ns=STAGE_NS,
            )
        )
        for path in paths
    )


def without_disk(plan: Plan) -> Plan:
    """The plan without limits on the nodes' disk: it is this machine's, filled by others."""

    def kept(limits: Sequence[Objective]) -> tuple[Objective, ...]:
        return tuple(limit for limit in limits if limit.measure.server != DISK)

    return dataclasses.replace(plan, objectives=kept(plan.objectives), alerts=kept(plan.alerts))


def print_summary(judged: Sequence[tuple[Run, Verdict]], terminal: Terminal) -> None:
    """One line a run."""
    table = Table("profile", "scale", "verdict", "archive", title="Demo")
    for run, verdict in judged:
        table.add_row(
            verdict.scenario,
            f"{verdict.scale:g}",
            verdict.state.value,
            str(run.path),
        )
    terminal.out.print(table)
