"""The gRPC part of the benchmark: its claims, its counts, its table of cores, its server."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bench_builders import good_grpc, good_results, lag_sample

from benchmarks.claims import judge
from benchmarks.grpc_generators import count_of_client, count_of_h2load
from benchmarks.grpc_part import GrpcFigures
from benchmarks.grpc_plans import SHAPES, closed_for, open_unique
from benchmarks.grpc_report import cores_for, reference_of
from benchmarks.million import MILLION, MillionSample
from benchmarks.process import spawn
from benchmarks.report import write_report
from benchmarks.results import GrpcPart, Results
from benchmarks.server import Server, Status
from loadtests.engine.catalogue import Catalogue
from loadtests.plan.codec import decode_plan, encode_plan

H2LOAD = (
    "requests: {0} total, 98909 started, {0} done, {0} succeeded, {1} failed, 0 errored, 0 timeout"
)


def _with(figures: GrpcFigures) -> Results:
    good = good_results()
    assert good.grpc
    return replace(good, grpc=replace(good.grpc, figures=figures))


def _verdicts(results: Results) -> dict[str, bool | None]:
    return {claim.text: claim.is_met for claim in judge(results)}


def _costlier(key: str, factor: float) -> GrpcFigures:
    good = good_grpc()
    samples = tuple(
        replace(s, slices_us=tuple(factor * cost_us for cost_us in s.slices_us))
        if s.key == key
        else s
        for s in good.nghttpd
    )
    return replace(good, nghttpd=samples)


def _slower(requests: int, generator_s: float, server_s: float) -> GrpcFigures:
    good = good_grpc()
    samples = tuple(
        replace(
            s,
            requests=requests,
            generator_cpu_ns=round(generator_s * 1e9),
            server_cpu_ns=round(server_s * 1e9),
        )
        for s in good.nghttpd
    )
    return replace(good, nghttpd=samples)


def _million(change: Callable[[MillionSample], MillionSample]) -> GrpcFigures:
    good = good_grpc()
    return replace(good, million=change(good.million))


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("h2load's, 8x100, nghttpd", _costlier("h2load 8x100", 0.95)),
        ("h2load's, 8x1, nghttpd", _costlier("8x1", 1.05)),
        ("h2load's, 64x1, nghttpd", _costlier("64x1", 1.05)),
        ("grpc.aio on uvloop", _costlier("aio", 0.69)),
        ("grpcio with gevent", _costlier("gevent", 0.69)),
        ("unique transactions at 70%", _costlier("open", 1.13)),
        ("unique transactions at 90%", _costlier("high", 1.26)),
        ("requests/s of one engine", _slower(119_999, 1.0, 0.99)),
        ("lag p50", replace(good_grpc(), lag=(replace(lag_sample(0.5), p50_slices_us=(101.0,)),))),
        ("lag p99", replace(good_grpc(), lag=(replace(lag_sample(0.5), p99_slices_us=(999.0,)),))),
        ("all accounted", _million(lambda m: replace(m, windows_ok=MILLION - 1))),
        ("all accounted", _million(lambda m: replace(m, failed=1))),
        ("all accounted", _million(lambda m: replace(m, server_count=MILLION - 2_100))),
        (
            "memory flat",
            _million(lambda m: replace(m, resident_bytes=tuple(10**6 * n for n in range(38)))),
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_figure_beyond_its_limit_fails_its_claim_alone(name: str, figures: GrpcFigures) -> None:
    """One figure just beyond its limit turns exactly its own claim to not met."""
    failed = [text for text, is_met in _verdicts(_with(figures)).items() if is_met is False]
    assert len(failed) == 1
    assert name in failed[0]


def test_a_rate_that_a_full_server_bounds_says_nothing_of_the_engine() -> None:
    """Below the rate with the server's core full and the engine's not: not measured."""
    verdicts = _verdicts(_with(_slower(100_000, 0.6, 0.99)))
    (text,) = (text for text in verdicts if "requests/s of one engine" in text)
    assert verdicts[text] is None
    assert _verdicts(_with(_slower(100_000, 0.6, 0.5)))[text] is False


def test_without_grpc_go_its_claims_are_not_measured() -> None:
    """A server that could not be built leaves its three claims open and says so in the report."""
    results = _with(replace(good_grpc(), grpc_go=()))
    missing = [text for text, is_met in _verdicts(results).items() if is_met is None]
    assert len(missing) == 3
    assert all("grpc-go" in text for text in missing)
    assert "grpc-go could not be built here." in write_report(results)


def test_results_without_the_higher_level_leave_its_claim_open() -> None:
    """As those that were measured before there was one: no figure, and a report all the same."""
    good = good_grpc()
    results = _with(replace(good, nghttpd=tuple(s for s in good.nghttpd if s.key != "high")))
    missing = [text for text, is_met in _verdicts(results).items() if is_met is None]
    assert missing == [
        "gRPC: open load of unique transactions at 90% of saturation, against closed, 8x100"
    ]
    assert "| gRPC | 1,000,000 |" not in write_report(results)


def test_a_quick_run_or_a_smaller_million_measures_nothing() -> None:
    """Quick figures meet no claim, and fewer requests than a million are no million."""
    good = good_results()
    assert good.grpc
    quick = GrpcPart(stamp=replace(good.grpc.stamp, is_quick=True), figures=good_grpc())
    verdicts = _verdicts(replace(good, grpc=quick))
    assert {is_met for text, is_met in verdicts.items() if text.startswith("gRPC")} == {None}
    fewer = _verdicts(_with(_million(lambda m: replace(m, wanted=100_000))))
    assert [text for text, is_met in fewer.items() if is_met is None] == [
        "gRPC: 1,000,000 requests, all accounted, memory flat"
    ]


def test_the_report_tells_how_many_cores_the_great_rates_take() -> None:
    """REST at 14 us and gRPC at 4.5 us a request, engines 90 % busy at most."""
    text = write_report(good_results())
    assert cores_for(1_000_000, 4.5) == 5
    assert "| REST | 776,000 | 14.00 | 13 |" in text
    assert "| gRPC | 1,000,000 | 4.50 | 5 |" in text
    assert "| gRPC | 2,000,000 | 4.50 | 10 |" in text
    assert "| 8x100 | 0.88 |" in text


def test_everything_is_held_against_h2load_in_its_own_shape() -> None:
    """Open load and the Python clients have 8 x 100 calls under way."""
    assert reference_of("8x1") == reference_of("h2load 8x1") == "h2load 8x1"
    assert reference_of("open") == reference_of("high") == reference_of("aio") == "h2load 8x100"


def test_counts_of_the_generators_are_read_from_what_they_print() -> None:
    """h2load's and the Python clients' own totals; a run with failures gives no figure."""
    assert count_of_h2load(H2LOAD.format(98109, 0)) == 98109
    assert count_of_client("8123 answered\n") == 8123
    for output in ("", H2LOAD.format(98109, 1)):
        with pytest.raises(ValueError, match="said"):
            count_of_h2load(output)
    with pytest.raises(ValueError, match="said"):
        count_of_client("Traceback")


class _Nobody(Server):
    """A server that was never started: plans only need its port."""

    def status(self) -> Status:
        """Never asked."""
        raise AssertionError


@pytest.fixture
def nobody(tmp_path: Path) -> Server:
    core = min(os.sched_getaffinity(0))
    with spawn("nobody", ["true"], core=core, scratch=tmp_path) as child:
        return _Nobody(child=child, port=1)


def test_plans_travel_and_have_the_shape_that_they_are_named_after(nobody: Server) -> None:
    """Every stream of a closed shape has its user, and all is carried by HTTP/2."""
    for connections, streams in SHAPES:
        plan = closed_for(connections, streams)(nobody, 2.0)
        assert (plan.multiplexing.connections, plan.multiplexing.streams) == (connections, streams)
        assert plan.in_flight_limit == connections * streams
        assert plan.connections == 0
        assert decode_plan(encode_plan(plan)) == plan


def test_open_load_sends_transactions_that_differ_in_four_fields(nobody: Server) -> None:
    """Two requests of the open plan share no value, and have about 64 bytes."""
    import numpy as np  # noqa: PLC0415 - as the catalogue wants its numbers

    catalogue = Catalogue(open_unique(nobody, 1.0, 1000.0), run_id="r", environment={})
    sequences = np.arange(200, dtype=np.int64)
    parcels = catalogue.parcels([0] * 200, sequences, np.zeros(200, dtype=np.int64))
    payloads = [payload for _, _, _, payload in parcels]
    assert len(set(payloads)) == 200
    assert all(55 <= len(payload) <= 75 for payload in payloads)
    fields = [(p[7:43], p[45:53], p[55:63], p[64:]) for p in payloads]
    assert all(len({field[i] for field in fields}) > 190 for i in range(4))
