"""`headroom calibrate`: what a request costs this machine's generator, measured.

Runs closed loads without pause against an embedded cluster and reads their archives:
constant GETs, several short tries, for the CPU of the engines per answered request; and
the REST mix, for the rate at which generator and target together saturate the machine.
`check` uses the one, `demo` the other. Other work on the machine can only add to the cost
of a request, so the cheapest try counts; how far the others were off is kept and printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from loadtests.cluster.launch import Cluster
from loadtests.commands.calibration import Calibration, store_calibration
from loadtests.commands.options import Commands, add_json
from loadtests.commands.preparation import build_plan
from loadtests.commands.run import load_swarm, run_local
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, HarnessError
from loadtests.plan.host import usable_cores
from loadtests.record.archive import Run, load_run

SCENARIOS: Final = Path(__file__).resolve().parents[2] / "scenarios"
START_TIMEOUT_S: Final = 20.0
TRIES: Final = 3
QUIET_SPREAD: Final = 1.2  # quiet machines repeat themselves within a few per cent
DISTURBED: Final = (
    "; warning: the tries differ by more than a fifth, other work disturbs this machine"
)
STAGE: Final = "saturation"


def add_parser(commands: Commands) -> None:
    """No options besides JSON: it always measures the same thing."""
    parser = commands.add_parser(
        "calibrate",
        help="measure what a request costs this machine",
        description="Measures, against the embedded cluster, the generator's CPU per request and "
        "the rate at which this machine saturates; `check` and `demo` use the result.",
        epilog="example: headroom calibrate",
    )
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Start a cluster, calibrate, stop it."""
    load_swarm()
    with Cluster.start(nodes=4) as cluster:
        cluster.wait_ready(START_TIMEOUT_S)
        calibration = calibrate([node.url for node in cluster.nodes], terminal)
    path = store_calibration(calibration)
    if arguments.json:
        terminal.json(calibration)
    else:
        terminal.out.print(describe(calibration))
        terminal.say(f"kept in {path}")
    return ExitCode.PASS


def describe(calibration: Calibration) -> str:
    """One sentence with the spread, and a warning when it is wide."""
    low, high = calibration.request_ns_low, calibration.request_ns_high
    warning = "" if high <= low * QUIET_SPREAD else DISTURBED
    return (
        f"{calibration.request_ns / 1000:.1f} us of engine CPU per request, the least disturbed "
        f"of {TRIES} tries ({low / 1000:.1f} to {high / 1000:.1f}); generator and embedded "
        f"cluster together saturate {calibration.cores} cores at "
        f"{calibration.saturation_per_s:,.0f} requests/s{warning}"
    )


def calibrate(targets: Sequence[str], terminal: Terminal) -> Calibration:
    """Run the calibration scenarios; HarnessError when one gave no figures."""
    # One node: with several the engine shares its core with them on a small machine.
    costs_ns = [
        _cost_ns(_saturate("calibration-cost", targets[:1], terminal)) for _ in range(TRIES)
    ]
    mix = _saturate("calibration", targets, terminal)
    return Calibration(
        measured_unix_ns=time.time_ns(),
        cores=usable_cores(),
        request_ns=min(costs_ns),
        request_ns_low=min(costs_ns),
        request_ns_high=max(costs_ns),
        saturation_per_s=float(mix["done"].mean()),
    )


def _cost_ns(seconds: pd.DataFrame) -> float:
    return float((seconds["cpu_ns"] / seconds["done"]).median())


def _saturate(scenario: str, targets: Sequence[str], terminal: Terminal) -> pd.DataFrame:
    plan = build_plan(SCENARIOS / f"{scenario}.toml", scale=1.0, seed=None, targets=targets)
    with tempfile.TemporaryDirectory(prefix="headroom-calibration-") as folder:
        outcome = run_local(plan, Path(folder), terminal)
        return read_saturation(load_run(outcome.path))


def read_saturation(run: Run) -> pd.DataFrame:
    """`done` requests and `cpu_ns` of the engines in each whole second of the saturated stage."""
    rows = run.windows[(run.windows["stage"] == STAGE) & run.windows["judged"]]
    done = rows.groupby("window_s")[["ok", "client_error", "failed"]].sum().sum(axis=1)
    cpu_ns = run.engines.groupby("window_s")["cpu_ns"].sum()
    # The last second holds the drain.
    seconds = pd.DataFrame({"done": done, "cpu_ns": cpu_ns}).dropna().iloc[:-1]
    if seconds.empty or not (seconds["done"] > 0).all():
        raise HarnessError(
            where=str(run.path),
            seen=f"{run.manifest.outcome.value}: {run.manifest.outcome_reason or 'no answers'}",
            expected="answers in every second of the calibration",
        )
    return seconds
