"""What `headroom calibrate` measures, keeps and prints, and the peer that it asks."""

from __future__ import annotations

import dataclasses
import io
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import msgspec
import pandas as pd
import pytest
from synthetic_run import good_plan, write_run

from loadtests.cluster.canned import canned_peer
from loadtests.cluster.launch import Node
from loadtests.commands import calibrate as module
from loadtests.commands.calibrate import (
    DISTURBED,
    STAGE,
    calibrate,
    cost_ns,
    describe,
    read_saturation,
)
from loadtests.commands.calibration import (
    Calibration,
    ProtocolCost,
    basis_here,
    basis_of,
    calibration_path,
    load_costs,
    store_calibration,
)
from loadtests.commands.terminal import Terminal
from loadtests.errors import HarnessError
from loadtests.plan.feasibility import RequestKind
from loadtests.record.facts import engine_python
from loadtests.record.window import Count, Window


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep away from the calibration of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def cost_of(us: float, low: float, high: float) -> ProtocolCost:
    """Figures of one protocol, in us per request."""
    return ProtocolCost(
        request_ns=us * 1000,
        request_ns_low=low * 1000,
        request_ns_high=high * 1000,
        saturation_per_s=1234.0,
    )


GOOD = Calibration(
    measured_unix_ns=1_790_000_000 * 10**9,
    cores=2,
    http1=cost_of(14.0, 14.0, 15.5),
    grpc=cost_of(7.0, 7.0, 9.0),
)


def seconds(*us_each: float) -> pd.DataFrame:
    """Seconds of 1,000 answers at so many us of CPU each."""
    cpu_ns = [us * 1000 * 1000 for us in us_each]
    return pd.DataFrame(
        {
            "done": [1000] * len(us_each),
            "cpu_ns": cpu_ns,
            "bytes_sent": [1000 * 200] * len(us_each),
            "bytes_received": [1000 * 700] * len(us_each),
        }
    )


def test_a_try_costs_what_its_median_second_does() -> None:
    """One second in which a neighbour had the core does not decide."""
    assert cost_ns(seconds(10.0, 10.5, 40.0)) == 10_500.0


def with_bytes(window: Window) -> Window:
    """7 bytes out for each request sent, 9 in for each that was answered well."""
    counters = window.counters.copy()
    counters[:, Count.BYTES_SENT] = 7 * counters[:, Count.SENT]
    counters[:, Count.BYTES_RECEIVED] = 9 * counters[:, Count.OK]
    return dataclasses.replace(window, counters=counters)


def test_seconds_are_read_from_the_archive(tmp_path: Path) -> None:
    """Answers, CPU and bytes of each whole second of the saturated stage, the last left out."""
    plan = good_plan()
    stages = tuple(
        dataclasses.replace(stage, name=STAGE if stage.is_judged else stage.name)
        for stage in plan.stages
    )
    plan = dataclasses.replace(plan, stages=stages, objectives=())
    run = write_run(tmp_path, plan, change_window=with_bytes)
    found = read_saturation(run)
    assert len(found) >= 9
    rows = run.windows[(run.windows["stage"] == STAGE) & run.windows["judged"]]
    first = rows[rows["window_s"] == found.index[0]]
    assert found["bytes_sent"].iloc[0] == first["bytes_sent"].sum() > 0
    assert found["bytes_received"].iloc[0] == first["bytes_received"].sum() > 0
    assert found["done"].iloc[0] == first[["ok", "client_error", "failed"]].to_numpy().sum()
    engines = run.engines[run.engines["window_s"] == found.index[0]]
    assert found["cpu_ns"].iloc[0] == engines["cpu_ns"].sum()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Scenarios run by a calibration, with their targets; tries differ, as on a machine."""
    runs: list[tuple[str, tuple[str, ...]]] = []
    us = {
        "calibration-cost": (12.0, 12.0, 20.0, 9.0, 8.0, 9.0, 30.0, 30.0),
        "calibration-cost-grpc": (6.0, 6.0, 6.0, 5.0, 5.0, 5.0, 5.5, 5.5),
    }

    def saturate(scenario: str, targets: Sequence[str], _terminal: Terminal) -> pd.DataFrame:
        runs.append((scenario, tuple(targets)))
        return seconds(*us.get(scenario, (1.0,)))

    monkeypatch.setattr(module, "_saturate", saturate)
    return runs


@pytest.mark.system
def test_the_cheapest_of_three_tries_counts(
    asked: list[tuple[str, tuple[str, ...]]],
) -> None:
    """Other work only adds; how far the tries were apart is kept, for each protocol."""
    nodes = [
        Node(name=f"n{port}", url=f"http://r:{port}", grpc_url=f"http://g:{port}", pid=1)
        for port in (1, 2)
    ]
    found = calibrate(nodes, Terminal(stdout=io.StringIO(), stderr=io.StringIO()))
    assert found.http1 is not None
    assert found.grpc is not None
    assert (found.http1.request_ns, found.http1.request_ns_low) == (9_000.0, 9_000.0)
    assert (found.http1.request_ns_high, found.http1.saturation_per_s) == (30_000.0, 1000.0)
    assert (found.grpc.request_ns, found.grpc.request_ns_high) == (5_000.0, 6_000.0)
    assert (found.http1.sent_bytes, found.http1.received_bytes) == (200.0, 700.0)
    assert found.http1.mix_request_ns == 1_000.0
    assert found.python == engine_python()
    rest, calls = ("http://r:1", "http://r:2"), ("http://g:1", "http://g:2")
    peer = asked[2][1]
    assert asked == [
        ("calibration-cost", rest[:1]),
        ("calibration", rest),
        ("calibration-cost-grpc", peer),
        ("calibration-grpc", calls),
    ]
    assert peer[0].startswith("http://127.0.0.1:")


def test_the_spread_is_printed_and_a_wide_one_warned_of() -> None:
    """Quiet tries repeat themselves; gRPC's differ by more than a fifth here."""
    rest, calls = describe(GOOD).splitlines()
    assert rest.startswith("HTTP/1.1: 14.0 us of engine CPU per request, the least disturbed")
    assert "of 3 tries (14.0 to 15.5)" in rest
    assert "saturate 2 cores at 1,234 requests/s" in rest
    assert DISTURBED not in rest
    assert "of 3 tries (7.0 to 9.0), its cost against a peer that answers at once" in calls
    assert calls.endswith(DISTURBED)


def test_costs_are_kept_by_protocol() -> None:
    """What was stored is what `check` uses, with the day it was measured."""
    assert load_costs() is None
    store_calibration(GOOD)
    costs = load_costs()
    assert costs is not None
    assert costs.request_ns == {RequestKind.HTTP1: 14_000.0, RequestKind.UNARY: 7_000.0}
    assert costs.basis == "2026-09-21"


def test_what_engines_ran_on_is_told_with_the_day() -> None:
    """Compiled engines cost less: a cost of one kind is not passed off as one of the other."""
    here = msgspec.structs.replace(GOOD, python=engine_python())
    assert basis_of(here) == f"2026-09-21 with {engine_python()}"
    other = msgspec.structs.replace(GOOD, python="CPython 3.9.1, engine compiled")
    text = "2026-09-21 with CPython 3.9.1, engine compiled"
    assert (basis_of(other), basis_here(other)) == (text, f"{text}; this is {engine_python()}")
    assert basis_here(here) == basis_of(here)
    assert basis_here(GOOD) == basis_of(GOOD) == "2026-09-21"
    store_calibration(other)
    costs = load_costs()
    assert costs is not None
    assert costs.basis == basis_here(other)


def test_a_calibration_of_before_protocols_knows_none() -> None:
    """It measured one figure of REST under other names: not known is better than mistaken."""
    calibration_path().parent.mkdir(parents=True)
    old = {"measured_unix_ns": 1, "cores": 2, "request_ns": 5.0, "saturation_per_s": 1.0}
    calibration_path().write_bytes(msgspec.json.encode(old))
    costs = load_costs()
    assert costs is not None
    assert costs.request_ns == {}


def test_a_damaged_calibration_is_reported() -> None:
    """Nothing is guessed around it."""
    calibration_path().parent.mkdir(parents=True)
    calibration_path().write_text("{", encoding="utf-8")
    with pytest.raises(HarnessError, match="headroom calibrate"):
        load_costs()


@pytest.fixture
def peer() -> Iterator[str]:
    """Address of a canned peer."""
    with canned_peer() as url:
        yield url.removeprefix("http://")


@pytest.mark.system
@pytest.mark.parametrize("request_bytes", [0, 64, 300_000])
def test_the_peer_answers_grpcio(peer: str, request_bytes: int) -> None:
    """A client that shares no code with it gets OK and an empty message, call after call."""
    with grpc.insecure_channel(peer) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/any.S/Method")
        calls = [method.future(b"x" * request_bytes, timeout=30) for _ in range(300)]
        assert {call.result() for call in calls} == {b""}


@pytest.mark.system
def test_the_peer_ends_with_its_starter() -> None:
    """Nothing is left behind."""
    with canned_peer() as url:
        port = int(url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
