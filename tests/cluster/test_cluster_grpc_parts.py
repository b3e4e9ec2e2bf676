"""The parts of a node's gRPC without sockets: prediction, signatures, counts, the site."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from loadtests.clock import NS_PER_MS, NS_PER_S
from loadtests.cluster.behaviour import PLAIN
from loadtests.cluster.binning import BOUNDS_S
from loadtests.cluster.crypto_calls import CryptoCalls
from loadtests.cluster.generated.ai_optimization_pb2 import ResourceMetrics
from loadtests.cluster.generated.aurigraph_v11_pb2 import DESCRIPTOR, SignRequest, VerifyRequest
from loadtests.cluster.grpc_calls import RefusedCallError, Service, build_timestamp
from loadtests.cluster.grpc_site import GrpcSite
from loadtests.cluster.ledger import Durability
from loadtests.cluster.metrics import Metrics
from loadtests.cluster.options import NodeOptions
from loadtests.cluster.prediction_calls import HORIZON_S, predict
from loadtests.cluster.transaction_calls import TransactionCalls
from loadtests.cluster.workings import Workings


def seen(**changes: Any) -> ResourceMetrics:
    """A node at 100 tps with nothing waiting."""
    usual: dict[str, Any] = {
        "cpu_usage_percent": 40.0,
        "memory_usage_percent": 60.0,
        "network_usage_mbps": 10.0,
        "disk_io_operations": 1_000,
        "current_tps": 100.0,
    }
    return ResourceMetrics(**{**usual, **changes})


def test_nothing_waiting_predicts_the_present() -> None:
    """Without pending work the prediction is what is seen, with full confidence."""
    said = predict(seen())
    assert (said.predicted_cpu_percent, said.predicted_memory_percent) == (40.0, 60.0)
    assert (said.predicted_network_mbps, said.peak_disk_io) == (10.0, 1_000)
    assert (said.confidence, said.prediction_horizon_seconds) == (1.0, HORIZON_S)
    assert not said.warning_flags


def test_waiting_work_grows_everything_in_proportion() -> None:
    """Half the present rate more for the horizon: everything times 1.5, percents at most 100."""
    said = predict(seen(pending_transactions=50 * HORIZON_S))
    assert said.predicted_cpu_percent == pytest.approx(60.0)
    assert said.predicted_memory_percent == pytest.approx(90.0)
    assert said.predicted_network_mbps == pytest.approx(15.0)
    assert said.peak_disk_io == 1_500
    assert said.confidence == pytest.approx(1 / 1.5)
    assert list(said.warning_flags) == ["memory_above_80_percent"]
    assert predict(seen(pending_transactions=2**31 - 1)).predicted_cpu_percent == 100.0


@example(cpu=0.0, disk=2**55 + 1, pending=0, tps=0.0)  # no float is this number
@given(
    cpu=st.floats(0, 1e308),
    disk=st.integers(0, 2**63 - 1),
    pending=st.integers(0, 2**31 - 1),
    tps=st.floats(0, 1e308),
)
def test_any_figures_have_a_prediction(cpu: float, disk: int, pending: int, tps: float) -> None:
    """Extreme figures neither overflow nor lose the bounds."""
    said = predict(
        seen(
            cpu_usage_percent=cpu,
            disk_io_operations=disk,
            pending_transactions=pending,
            current_tps=tps,
        )
    )
    assert 0 <= said.predicted_cpu_percent <= 100
    assert 0 < said.confidence <= 1
    assert said.peak_disk_io >= disk


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(value: float) -> None:
    """A negative or endless figure is INVALID_ARGUMENT, and named."""
    with pytest.raises(RefusedCallError, match="current_tps") as caught:
        predict(seen(current_tps=value))
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


def test_signature_is_hmac_of_the_derived_key() -> None:
    """The named algorithm is what is done: HMAC-SHA-256 under a key of secret and key id."""
    service = CryptoCalls(b"secret").service()
    sign: Any = service.handlers["Sign"]
    verify: Any = service.handlers["Verify"]
    key = hmac.digest(b"secret", b"id", "sha256")
    expected = hmac.digest(key, b"message", "sha256")
    assert sign(SignRequest(message=b"message", key_id="id")).signature == expected
    request = VerifyRequest(message=b"message", key_id="id", signature=expected)
    assert verify(request).is_valid
    for wrong in (b"", expected[:-1], expected + b"\0", expected[::-1]):
        request.signature = wrong
        assert not verify(request).is_valid


def test_timestamps_are_utc_in_three_forms() -> None:
    """Seconds, nanos and ISO 8601 are the same moment."""
    made = build_timestamp(1_700_000_000 * NS_PER_S + 123_456_789)
    assert (made.seconds, made.nanos) == (1_700_000_000, 123_456_789)
    assert made.iso8601 == "2023-11-14T22:13:20.123456+00:00"


def test_scrape_has_micrometers_names_and_exact_counts() -> None:
    """Messages by method and type; the timer by status code too, with buckets, sum and max."""
    metrics = Metrics(Path())
    service = DESCRIPTOR.services_by_name["TransactionService"]
    counts = metrics.grpc.method(service.methods_by_name["SubmitTransaction"])
    counts.received, counts.sent = 4, 3
    for ms in (1, 2, 600):
        counts.end(StatusCode.OK, ms * NS_PER_MS)
    counts.end(StatusCode.CANCELLED, 7 * NS_PER_MS)
    families = text_string_to_metric_families(metrics.exposition().decode())
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    method = (("method", "SubmitTransaction"), ("methodType", "UNARY"))
    of_service = ("service", service.full_name)
    assert found["grpc_server_requests_received_messages_total", *method, of_service] == 4
    assert found["grpc_server_responses_sent_messages_total", *method, of_service] == 3
    name = "grpc_server_processing_duration_seconds"
    for code, count, sum_s, max_s in (("OK", 3, 0.603, 0.6), ("CANCELLED", 1, 0.007, 0.007)):
        labels = (*method, of_service, ("statusCode", code))
        assert found[f"{name}_count", *labels] == count
        assert found[f"{name}_sum", *labels] == pytest.approx(sum_s)
        assert found[f"{name}_max", *labels] == max_s
    ok = (*method, of_service, ("statusCode", "OK"))
    for bound in BOUNDS_S:
        expected = sum(ms <= bound * 1000 for ms in (1, 2, 600))
        assert found[f"{name}_bucket", ("le", str(bound)), *ok] == expected
    assert metrics.answered() == 4


def test_method_types_are_micrometers() -> None:
    """What streams is in the label: of the target's methods, and of reflection's."""
    metrics = Metrics(Path())
    service = DESCRIPTOR.services_by_name["TransactionService"]
    stream = metrics.grpc.method(service.methods_by_name["StreamTransactions"])
    assert stream.labels == (service.full_name, "StreamTransactions", "SERVER_STREAMING")
    reflected = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    both = metrics.grpc.method(reflected.methods_by_name["ServerReflectionInfo"])
    assert both.labels[-1] == "BIDI_STREAMING"


class Details:
    """What grpcio tells of a call before it is handled."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class AbortedError(Exception):
    """The call has been ended with a status."""


class Context:
    """A call as grpcio shows it to a handler."""

    def __init__(self) -> None:
        self.code: StatusCode | None = None

    async def abort(self, code: StatusCode, details: str) -> None:
        """End the call, and its handler."""
        self.code = code
        raise AbortedError(details)


@pytest.fixture
def workings(tmp_path: Path) -> Iterator[Workings]:
    """Those of a node that has joined and listens nowhere."""
    loop = asyncio.new_event_loop()
    options = NodeOptions(
        version="11",
        name="node-1",
        host="127.0.0.1",
        port=0,
        grpc_port=0,
        grpc_tls=None,
        store=tmp_path / "ledger.db",
        durability=Durability.FULL,
        behaviour=PLAIN,
        ground_truth=None,
    )
    made = Workings(options, loop, "http://127.0.0.1:1")
    made.committer.start()
    yield made
    made.close()
    made.store.close()
    loop.close()


def ended(workings: Workings, method: str) -> dict[str, float]:
    """Ended calls of a method, by status code."""
    families = text_string_to_metric_families(workings.metrics.exposition().decode())
    return {
        sample.labels["statusCode"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "grpc_server_processing_duration_seconds_count"
        and sample.labels["method"] == method
    }


def test_a_stream_that_comes_while_the_others_are_ended_is_refused(workings: Workings) -> None:
    """It would not end by itself, and nobody would end it."""
    service = TransactionCalls(workings).service()
    site = GrpcSite(workings, [service])
    site.drain()
    handler: Any = site.service(Details(f"/{service.descriptor.full_name}/StreamTransactions"))
    context = Context()
    with pytest.raises(AbortedError, match="shutting down"):
        workings.loop.run_until_complete(handler.unary_stream(b"", context))
    assert context.code is StatusCode.UNAVAILABLE
    assert ended(workings, "StreamTransactions") == {"UNAVAILABLE": 1}


def test_a_bug_is_counted_and_not_hidden(workings: Workings) -> None:
    """An error that stands for no status goes on to grpcio; the call has ended as UNKNOWN."""

    def broken(_: Message) -> Message:
        raise ZeroDivisionError

    descriptor = DESCRIPTOR.services_by_name["CryptoService"]
    service = Service(descriptor=descriptor, handlers={"Sign": broken}, is_probe=False)
    site = GrpcSite(workings, [service])
    handler: Any = site.service(Details(f"/{descriptor.full_name}/Sign"))
    with pytest.raises(ZeroDivisionError):
        workings.loop.run_until_complete(handler.unary_unary(b"", Context()))
    assert ended(workings, "Sign") == {"UNKNOWN": 1}
