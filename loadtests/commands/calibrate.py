"""`headroom calibrate`: what a request costs this machine's generator, measured.

Runs closed loads without pause and reads their archives, for HTTP/1.1 and for gRPC each:
constant requests, three short tries on end, for the CPU of the engines per answered request;
and the mix against an embedded cluster, for the rate at which generator and target together
saturate the machine. `check` uses the one, `demo` measures the other again. Constant GETs go
to a node of the cluster, constant calls to a peer that answers at once: for grpcio's server the
engine would mostly wait, and waking up is what it would be measured by. Other work can only
add to the cost of a request, so the cheapest try counts; how far the others were off is kept
and printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from loadtests.cluster.canned import canned_peer
from loadtests.cluster.launch import Cluster, Node
from loadtests.commands.calibration import Calibration, ProtocolCost, store_calibration
from loadtests.commands.options import Commands, add_json, add_logs
from loadtests.commands.preparation import build_plan
from loadtests.commands.run import load_swarm, run_local
from loadtests.commands.terminal import Terminal
from loadtests.errors import ExitCode, HarnessError
from loadtests.plan.host import usable_cores
from loadtests.record.archive import Run, load_run
from loadtests.record.facts import engine_python

SCENARIOS: Final = Path(__file__).resolve().parents[2] / "scenarios"
START_TIMEOUT_S: Final = 20.0
TRIES: Final = 3
QUIET_SPREAD: Final = 1.2  # quiet machines repeat themselves within a few per cent
DISTURBED: Final = (
    "; warning: the tries differ by more than a fifth, other work disturbs this machine"
)
STAGE: Final = "saturation"
_BYTES: Final = ["bytes_sent", "bytes_received"]


def add_parser(commands: Commands) -> None:
    """No options of its own: it always measures the same thing."""
    parser = commands.add_parser(
        "calibrate",
        help="measure what a request costs this machine",
        description="Measures, for HTTP/1.1 and gRPC, the generator's CPU per request and, "
        "against the embedded cluster, the rate at which this machine saturates; `check` and "
        "`demo` use the result.",
        epilog="example: headroom calibrate",
    )
    add_logs(parser)
    add_json(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace, terminal: Terminal) -> ExitCode:
    """Start a cluster, calibrate, stop it."""
    load_swarm()
    with Cluster.start(nodes=4) as cluster:
        cluster.wait_ready(START_TIMEOUT_S)
        calibration = calibrate(cluster.nodes, terminal)
    path = store_calibration(calibration)
    if arguments.json:
        terminal.json(calibration)
    else:
        terminal.out.print(describe(calibration))
        terminal.say(f"kept in {path}")
    return ExitCode.PASS


def describe(calibration: Calibration) -> str:
    """A line for each protocol, with the spread, and a warning where it is wide."""
    of_grpc = "its cost against a peer that answers at once"
    return "\n".join(
        _describe(name, cost, calibration.cores, note)
        for name, cost, note in (
            ("HTTP/1.1", calibration.http1, ""),
            ("gRPC", calibration.grpc, f", {of_grpc}"),
        )
        if cost is not None
    )


def _describe(name: str, cost: ProtocolCost, cores: int, note: str) -> str:
    low, high = cost.request_ns_low, cost.request_ns_high
    warning = "" if high <= low * QUIET_SPREAD else DISTURBED
    return (
        f"{name}: {cost.request_ns / 1000:.1f} us of engine CPU per request, the least disturbed "
        f"of {TRIES} tries ({low / 1000:.1f} to {high / 1000:.1f}){note}; generator and embedded "
        f"cluster together saturate {cores} cores at {cost.saturation_per_s:,.0f} "
        f"requests/s{_of_mix(cost)}{warning}"
    )


def _of_mix(cost: ProtocolCost) -> str:
    """What a request of the mix took; "" in a calibration of before that was measured."""
    if cost.mix_request_ns is None or cost.sent_bytes is None or cost.received_bytes is None:
        return ""
    return (
        f", {cost.mix_request_ns / 1000:.1f} us, {cost.sent_bytes:,.0f} bytes out and "
        f"{cost.received_bytes:,.0f} bytes in for each of the mix"
    )


def calibrate(nodes: Sequence[Node], terminal: Terminal) -> Calibration:
    """Run the calibration scenarios; HarnessError when one gave no figures."""
    rest, calls = [node.url for node in nodes], [str(node.grpc_url) for node in nodes]
    with canned_peer() as peer:
        return Calibration(
            measured_unix_ns=time.time_ns(),
            cores=usable_cores(),
            python=engine_python(),
            # One node: with several the engine shares its core with them on a small machine.
            http1=_measure("calibration-cost", rest[:1], "calibration", rest, terminal),
            grpc=_measure("calibration-cost-grpc", [peer], "calibration-grpc", calls, terminal),
        )


def _measure(
    cost_scenario: str,
    cost_targets: Sequence[str],
    scenario: str,
    targets: Sequence[str],
    terminal: Terminal,
) -> ProtocolCost:
    seconds = _saturate(cost_scenario, cost_targets, terminal)
    if len(seconds) < TRIES:
        seen, expected = f"{len(seconds)} s of answers", f"at least {TRIES} s"
        raise HarnessError(where=cost_scenario, seen=seen, expected=expected)
    tries = np.array_split(np.arange(len(seconds)), TRIES)
    costs_ns = [cost_ns(seconds.iloc[part]) for part in tries]
    mix = _saturate(scenario, targets, terminal)
    done = float(mix["done"].sum())
    return ProtocolCost(
        request_ns=min(costs_ns),
        request_ns_low=min(costs_ns),
        request_ns_high=max(costs_ns),
        saturation_per_s=float(mix["done"].mean()),
        mix_request_ns=cost_ns(mix),
        sent_bytes=float(mix["bytes_sent"].sum()) / done,
        received_bytes=float(mix["bytes_received"].sum()) / done,
    )


def saturation_per_s(scenario: str, targets: Sequence[str], terminal: Terminal) -> float:
    """Answers per second at which generator and target together saturate this machine."""
    return float(_saturate(scenario, targets, terminal)["done"].mean())


def cost_ns(seconds: pd.DataFrame) -> float:
    """Engine CPU per answered request: the median second."""
    return float((seconds["cpu_ns"] / seconds["done"]).median())


def _saturate(scenario: str, targets: Sequence[str], terminal: Terminal) -> pd.DataFrame:
    plan = build_plan(SCENARIOS / f"{scenario}.toml", scale=1.0, seed=None, targets=targets)
    with tempfile.TemporaryDirectory(prefix="headroom-calibration-") as folder:
        outcome = run_local(plan, Path(folder), terminal)
        return read_saturation(load_run(outcome.path))


def read_saturation(run: Run) -> pd.DataFrame:
    """What happened in each whole second of the saturated stage.

    `done` requests, `cpu_ns` of the engines, `bytes_sent` and `bytes_received`.
    """
    rows = run.windows[(run.windows["stage"] == STAGE) & run.windows["judged"]]
    sums = rows.groupby("window_s")[["ok", "client_error", "failed", *_BYTES]].sum()
    done = sums[["ok", "client_error", "failed"]].sum(axis=1)
    cpu_ns = run.engines.groupby("window_s")["cpu_ns"].sum()
    # The last second holds the drain.
    seconds = pd.DataFrame({"done": done, "cpu_ns": cpu_ns}).join(sums[_BYTES]).dropna().iloc[:-1]
    if seconds.empty or not (seconds["done"] > 0).all():
        raise HarnessError(
            where=str(run.path),
            seen=f"{run.manifest.outcome.value}: {run.manifest.outcome_reason or 'no answers'}",
            expected="answers in every second of the calibration",
        )
    return seconds
