"""`headroom demo`: the whole chain on one machine, in under three minutes.

Starts the embedded cluster, finds by a short closed load of each protocol what this machine can
do, runs the three REST load profiles and the first one of gRPC in rehearsal length at that
scale, then kills the leader of a cluster behind HAProxy under load. Prints each verdict,
archives everything, makes the baseline tables anew and stops what it started.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Final

from rich.table import Table

from analysis.baselines import record_results
from analysis.recovery.sentence import recovery_sentences
from analysis.verdict import Verdict, merge_states
from loadtests.clock import NS_PER_S
from loadtests.cluster.launch import DISCLAIMER, Cluster
from loadtests.commands.calibrate import SCENARIOS, START_TIMEOUT_S, saturation_per_s
from loadtests.commands.embedded import free_ports, system_under_test
from loadtests.commands.failover_page import say_prediction
from loadtests.commands.interrupts import ignoring_after_start
from loadtests.commands.judgement import conclude, exit_code_of, print_run
from loadtests.commands.options import Commands, add_logs, add_results
from loadtests.commands.preparation import build_plan
from loadtests.commands.run import load_swarm, run_local
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode
from loadtests.plan.model import Objective, Plan
from loadtests.plan.rehearsal import rehearse, rehearse_failover
from loadtests.plan.server_metrics import DISK
from loadtests.record.archive import Run
from loadtests.record.manifest import Outcome

# By named baseline; all of gRPC's would take more than the three minutes.
PROFILES: Final = {"rest": ("rest-100", "rest-150", "rest-200"), "grpc": ("grpc-100",)}
SATURATING: Final = {"rest": "calibration", "grpc": "calibration-grpc"}
FAILOVER: Final = "failover-full"
WARM_UP_NS: Final = 2 * NS_PER_S
# As short as an error ratio of 0.1 % lets a stage be, which takes 4,603 samples, and the nodes'
# own metrics, which take 5.
STAGE_NS: Final = {"rest": 6 * NS_PER_S, "grpc": 10 * NS_PER_S}
BEFORE_NS: Final = 12 * NS_PER_S
# Killed 2 s into the last stage; back after about 3 s, for 30 s, and some more.
STEADY_NS: Final = 3 * NS_PER_S
DOWN_NS: Final = 5 * NS_PER_S
AFTER_NS: Final = 38 * NS_PER_S
# Generator and target share the machine: 200 % is to stay below the rate at which both
# together saturate it, because above that nobody could tell whose limit was met.
PART_OF_SATURATION: Final = 0.3

Judged = tuple[Run, Verdict]


def add_parser(commands: Commands) -> None:
    """Only where results go."""
    parser = commands.add_parser(
        "demo",
        help="everything once on this machine, in under three minutes",
        description="Starts the embedded cluster, runs the REST profiles 100, 150 and 200 % and "
        "gRPC's 100 % scaled to this machine, kills the leader of a cluster under load and "
        "measures its failover, prints the verdicts and stops everything.",
        epilog="example: headroom demo",
    )
    add_results(parser)
    add_logs(parser)
    parser.set_defaults(execute=execute)


def demo_scale(saturation_per_s: float, baseline_per_s: float) -> float:
    """Scale at which 100 % is a safe part of what this machine can do; two digits, rounded down."""
    scale = saturation_per_s * PART_OF_SATURATION / baseline_per_s
    digit = 10.0 ** (math.floor(math.log10(scale)) - 1)
    return math.floor(scale / digit) * digit


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """The demo's exit code is the merged verdict of its runs, or the end of one that was cut."""
    load_swarm()
    judged = _run_all(arguments, terminal)
    if not _is_whole(judged):
        run, verdict = judged[-1]
        return exit_code_of(run.manifest.outcome, verdict.state)
    print_summary(judged, terminal)
    for recorded in record_results(judged, arguments.results):
        if not recorded.is_promoted:
            terminal.say(f"{recorded.run_id} is no baseline: {recorded.reason}")
    terminal.say(f"tables: {arguments.results}/BASELINES.md and .csv; everything is stopped")
    return exit_code_of(Outcome.COMPLETE, merge_states(verdict.state for _, verdict in judged))


def _is_whole(judged: Sequence[Judged]) -> bool:
    return judged[-1][0].manifest.outcome is Outcome.COMPLETE


def _run_all(arguments: argparse.Namespace, terminal: Terminal) -> list[Judged]:
    """Load profiles, then the failover; up to the first run that did not come to its end."""
    judged = []
    terminal.say(DISCLAIMER)
    with Cluster.start(nodes=4) as cluster:
        cluster.wait_ready(START_TIMEOUT_S)
        targets = [f"{node.url},grpc={node.grpc_url}" for node in cluster.nodes]
        for node in cluster.nodes:
            terminal.say(f"started {node.name} at {node.url}, gRPC at {node.grpc_url}")
        terminal.say("what this machine can do: closed loads at saturation, about 25 s")
        plans: list[Plan] = []
        for baseline, scenario in SATURATING.items():
            urls = [
                node.url if baseline == "rest" else str(node.grpc_url) for node in cluster.nodes
            ]
            saturated_per_s = saturation_per_s(scenario, urls, terminal)
            plans += build_plans(baseline, saturated_per_s, targets, terminal)
        for plan in plans:
            judged.append(_run(plan, arguments, terminal))
            if not _is_whole(judged):
                return judged
    plan = build_failover_plan()
    say_prediction(terminal, plan)
    with system_under_test(plan, terminal) as running:
        judged.append(_run(running, arguments, terminal))
    return judged


def _run(plan: Plan, arguments: argparse.Namespace, terminal: Terminal) -> Judged:
    terminal.say(f"running {plan.scenario_name}, {plan.duration_ns / NS_PER_S:.0f} s")
    with ignoring_after_start() as begun:
        outcome = run_local(plan, arguments.results, terminal, begun)
        run, verdict = conclude(outcome.path, plan, terminal)
        print_run(terminal, run, verdict, as_json=False)
    return run, verdict


def build_failover_plan() -> Plan:
    """The leader of four nodes behind HAProxy is killed; in rehearsal length, on free ports."""
    rest, grpc = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    path = SCENARIOS / f"{FAILOVER}.toml"
    return rehearse_failover(
        build_plan(path, scale=1.0, seed=None, targets=[f"{rest},grpc={grpc}"]),
        warm_up_ns=WARM_UP_NS,
        before_ns=BEFORE_NS,
        steady_ns=STEADY_NS,
        down_ns=DOWN_NS,
        after_ns=AFTER_NS,
    )


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
        f"{full_per_s:,.0f} requests/s (saturated at {saturated_per_s:,.0f})"
    )
    return tuple(
        without_disk(
            rehearse(
                build_plan(path, scale=scale, seed=None, targets=targets),
                warm_up_ns=WARM_UP_NS,
                stage_ns=STAGE_NS[baseline],
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
    """One line a run, and what each fault cost."""
    table = Table("profile", "scale", "verdict", "archive", title="Demo")
    for run, verdict in judged:
        table.add_row(
            verdict.scenario,
            f"{verdict.scale:g}",
            verdict.state.value,
            str(run.path),
        )
    terminal.out.print(table)
    for run, _ in judged:
        for sentence in recovery_sentences(run):
            terminal.out.print(sentence, soft_wrap=True)
