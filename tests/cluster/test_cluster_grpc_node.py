"""A node's gRPC around its methods: health, reflection, behaviours, truth, drain, TLS."""

from __future__ import annotations

import csv
import datetime as dt
import os
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cluster_clients import GrpcClient, ask, code_of, held_ledger, scraped, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from loadtests.clock import NS_PER_MS
from loadtests.cluster.behaviour import parse_behaviour
from loadtests.cluster.generated import ai_optimization_pb2, aurigraph_v11_pb2
from loadtests.cluster.generated.aurigraph_v11_pb2 import GRPCTransaction, SubmitTransactionRequest
from loadtests.cluster.launch import Cluster, Node
from loadtests.cluster.options import ServerTls
from loadtests.errors import HarnessError

pytestmark = pytest.mark.system

PACKAGE = "io.aurigraph.v11.grpc"
SUBMIT = f"{PACKAGE}.TransactionService/SubmitTransaction"
GET = f"{PACKAGE}.TransactionService/GetTransaction"
STREAM = f"{PACKAGE}.TransactionService/StreamTransactions"
NODE_STATE = f"{PACKAGE}.ConsensusService/GetNodeState"
CHECK, LIST, WATCH = (f"grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))
SERVICES = {
    service.full_name
    for file in (aurigraph_v11_pb2.DESCRIPTOR, ai_optimization_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
}
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.start(nodes=1) as started:
        started.wait_ready(20)
        yield started


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.nodes[0]


@pytest.fixture
def client(node: Node) -> Iterator[GrpcClient]:
    with GrpcClient(node) as made:
        yield made


def submission(hash_: str) -> SubmitTransactionRequest:
    return SubmitTransactionRequest(transaction=GRPCTransaction(transaction_hash=hash_, amount=1))


def truth_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["method"] == "GRPC"]


# Health and reflection


def test_every_service_is_healthy(client: GrpcClient) -> None:
    """Check and List say SERVING for the node and each service; an unknown one is NOT_FOUND."""
    for name in ("", *SERVICES):
        assert client.call(CHECK, HealthCheckRequest(service=name)).status == SERVING
    listed = client.call(LIST, HealthListRequest()).statuses
    assert {name: one.status for name, one in listed.items()} == dict.fromkeys(
        {"", *SERVICES}, SERVING
    )
    unknown = HealthCheckRequest(service="no.Service")
    assert code_of(client.call, CHECK, unknown) is StatusCode.NOT_FOUND
    watched = client.stream(WATCH, unknown)
    assert next(watched).status == HealthCheckResponse.SERVICE_UNKNOWN
    watched.cancel()


def test_health_follows_the_ledger(cluster: Cluster, node: Node, client: GrpcClient) -> None:
    """While nobody can write no service serves, and watchers are told; REST says the same."""
    watched = client.stream(WATCH, HealthCheckRequest(service=f"{PACKAGE}.CryptoService"))
    assert next(watched).status == SERVING
    with held_ledger(cluster.store):
        assert next(watched).status == NOT_SERVING
        assert client.call(CHECK, HealthCheckRequest()).status == NOT_SERVING
        assert ask(node, "GET", "/q/health/ready")[0] == 503
    assert next(watched).status == SERVING
    watched.cancel()


def test_a_broken_ledger_makes_calls_unavailable(cluster: Cluster, client: GrpcClient) -> None:
    """What cannot be read or written is UNAVAILABLE, never an answer; then it is over."""
    outside = sqlite3.connect(cluster.store, isolation_level=None)
    try:
        outside.execute("ALTER TABLE entry RENAME TO hidden")
        assert code_of(client.call, GET, StringValue(value="a")) is StatusCode.UNAVAILABLE
        assert code_of(client.call, SUBMIT, submission("a")) is StatusCode.UNAVAILABLE
        broken = client.stream(STREAM, Empty())
        assert code_of(next, broken) is StatusCode.UNAVAILABLE
        outside.execute("ALTER TABLE hidden RENAME TO entry")
    finally:
        outside.close()
    assert client.call(SUBMIT, submission("a")).message.startswith("committed")


def test_reflection_is_enough_to_call(client: GrpcClient) -> None:
    """All services are listed, and a method is called with what reflection alone says of it."""
    database = ProtoReflectionDescriptorDatabase(client.channel)
    probes = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert set(database.get_services()) == SERVICES | probes
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(f"{PACKAGE}.CryptoService").methods_by_name["Sign"]
    request: Any = GetMessageClass(method.input_type)(message=b"m", key_id="k")
    data = client.raw(f"/{PACKAGE}.CryptoService/Sign", request.SerializeToString())
    answer: Any = GetMessageClass(method.output_type).FromString(data)
    assert (answer.key_id, len(answer.signature)) == ("k", 32)


# Counting


def test_every_method_has_its_series(node: Node) -> None:
    """The scrape names every method of the protos, called or not."""
    methods = [
        (service.full_name, method.name)
        for file in (aurigraph_v11_pb2.DESCRIPTOR, ai_optimization_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    text = str(ask(node, "GET", "/q/metrics")[1])
    name = "grpc_server_requests_received_messages_total"
    for service, method in methods:
        assert f'{name}{{method="{method}",methodType="' in text
        assert f'service="{service}"}}' in text


def test_calls_that_are_none_are_counted(node: Node, client: GrpcClient) -> None:
    """Unknown methods are UNIMPLEMENTED, bytes that are no message INTERNAL; both are counted."""
    ended = "grpc_server_processing_duration_seconds_count"
    total = ask(node, "GET", "/api/v11/health")[1]["totalRequests"]
    for _ in range(3):
        assert code_of(client.raw, "/no.Service/Method", b"") is StatusCode.UNIMPLEMENTED
        assert code_of(client.raw, f"/{GET}", b"\xff") is StatusCode.INTERNAL
    assert scraped(node, ended, statusCode="UNIMPLEMENTED", service="UNKNOWN") == 3
    assert scraped(node, ended, statusCode="INTERNAL", method="GetTransaction") == 3
    wait_until(lambda: ask(node, "GET", "/api/v11/health")[1]["totalRequests"] >= total + 6)


def test_truth_has_a_row_for_each_call(tmp_path: Path) -> None:
    """Codes, paths and times of unary calls and streams; a client that had gone is -1."""
    with Cluster.start(nodes=1, ground_truth=tmp_path) as told:
        told.wait_ready(20)
        with GrpcClient(told.nodes[0]) as client:
            began_ns = time.monotonic_ns()
            for number in range(5):
                client.call(SUBMIT, submission(f"t-{number}"))
            for _ in range(3):
                code_of(client.call, GET, StringValue(value="none"))
            stream = client.stream(STREAM, Empty())
            next(stream)
            stream.cancel()
            name = "grpc_server_processing_duration_seconds_count"
            wait_until(lambda: scraped(told.nodes[0], name, statusCode="CANCELLED") == 1)
            ended_ns = time.monotonic_ns()
    rows = truth_rows(tmp_path / "node-1.csv")
    assert [(row["path"], row["status"]) for row in rows] == [
        *[(f"/{SUBMIT}", "0")] * 5,
        *[(f"/{GET}", "5")] * 3,
        (f"/{STREAM}", "1"),
    ]
    assert rows[-1]["replied_ns"] == "-1"
    times = [(int(row["received_ns"]), int(row["replied_ns"])) for row in rows[:-1]]
    assert all(began_ns < received < replied < ended_ns for received, replied in times)


# Behaviours


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("errors=1:500", StatusCode.INTERNAL),
        ("errors=1:503", StatusCode.UNAVAILABLE),
        ("errors=1:429", StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_errors_on_purpose(behaviour: str, code: StatusCode) -> None:
    """Calls and streams of services end with the code of the error; health is spared."""
    with Cluster.start(nodes=1, behaviours=parse_behaviour(behaviour)) as started:
        started.wait_ready(20)
        with GrpcClient(started.nodes[0]) as client:
            assert client.call(CHECK, HealthCheckRequest()).status == SERVING
            assert code_of(client.call, SUBMIT, submission("refused")) is code
            assert code_of(next, client.stream(STREAM, Empty())) is code


def test_one_limiter_counts_both_protocols() -> None:
    """What REST has used of a node's rate is not there for gRPC, and the other way round."""
    limited = parse_behaviour("max-rate=0.001")  # one request, then none for long
    with Cluster.start(nodes=2, behaviours=limited) as pair:
        pair.wait_ready(20)
        rest_first, grpc_first = pair.nodes
        with GrpcClient(rest_first) as client:
            assert ask(rest_first, "GET", "/api/v11/info")[0] == 200
            assert code_of(client.call, NODE_STATE, Empty()) is StatusCode.RESOURCE_EXHAUSTED
        with GrpcClient(grpc_first) as client:
            assert code_of(client.call, NODE_STATE, Empty()) is StatusCode.OK
            assert ask(grpc_first, "GET", "/api/v11/info")[0] == 429


def test_latency_and_stall_hold_answers(tmp_path: Path) -> None:
    """No answer leaves before its latency or inside a stall: the truth says when it left."""
    behaviour = parse_behaviour("latency=fixed:20ms,stall=200ms:400ms")
    with Cluster.start(nodes=1, behaviours=behaviour, ground_truth=tmp_path) as slow:
        slow.wait_ready(20)
        with GrpcClient(slow.nodes[0]) as client:
            for _ in range(20):
                client.call(NODE_STATE, Empty())
    rows = [row for row in truth_rows(tmp_path / "node-1.csv") if NODE_STATE in row["path"]]
    assert len(rows) == 20
    times = [(int(row["received_ns"]), int(row["replied_ns"])) for row in rows]
    assert min(replied - received for received, replied in times) >= 20 * NS_PER_MS
    first_ns = times[0][0]
    assert not [1 for _, replied in times if 200 <= (replied - first_ns) / NS_PER_MS < 600]


def test_a_call_that_is_given_up_while_held_is_counted(tmp_path: Path) -> None:
    """A client that goes before a delayed answer is CANCELLED, and the node goes on."""
    behaviour = parse_behaviour("latency=fixed:300ms")
    with Cluster.start(nodes=1, behaviours=behaviour, ground_truth=tmp_path) as slow:
        slow.wait_ready(20)
        with GrpcClient(slow.nodes[0]) as client:
            given_up = code_of(client.call, NODE_STATE, Empty(), timeout_s=0.05)
            assert given_up is StatusCode.DEADLINE_EXCEEDED
            assert client.call(NODE_STATE, Empty()).node_id == "node-1"
    rows = truth_rows(tmp_path / "node-1.csv")
    assert [row["status"] for row in rows] == ["1", "0"]


# The end


def test_drain_answers_calls_and_ends_streams() -> None:
    """SIGTERM: watchers are told, calls under way are answered, streams end, the port closes."""
    with Cluster.start(nodes=1, behaviours=parse_behaviour("latency=fixed:500ms")) as slow:
        slow.wait_ready(20)
        node = slow.nodes[0]
        with GrpcClient(node) as client:
            watched = client.stream(WATCH, HealthCheckRequest())
            assert next(watched).status == SERVING
            stream = client.stream(STREAM, Empty())
            call = client.begin(SUBMIT, submission("under way"))
            received = "grpc_server_requests_received_messages_total"
            wait_until(lambda: scraped(node, received, method="SubmitTransaction") == 1)
            wait_until(lambda: scraped(node, received, method="StreamTransactions") == 1)
            os.kill(node.pid, signal.SIGTERM)
            assert next(watched).status == NOT_SERVING
            assert code_of(next, watched) is StatusCode.UNAVAILABLE
            messages: list[Any] = []
            assert code_of(messages.extend, stream) is StatusCode.UNAVAILABLE
            assert call.result().transaction_hash == "under way"
        wait_until(lambda: len(slow.dead()) == 1)
        assert slow.dead()[0].startswith("node-1 ended with code 0")
        assert node.grpc_url is not None
        host, port = node.grpc_url.removeprefix("http://").split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)


# TLS, and the switch


def self_signed(folder: Path) -> ServerTls:
    """A certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    format_, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    tls = ServerTls(certificate=folder / "node.crt", key=folder / "node.key")
    tls.certificate.write_bytes(certificate.public_bytes(pem))
    tls.key.write_bytes(key.private_bytes(pem, format_, plain))
    return tls


def test_tls_with_alpn(tmp_path: Path) -> None:
    """With a certificate a node speaks HTTP/2 over TLS, agreed on by ALPN, and nothing else."""
    tls = self_signed(tmp_path)
    with Cluster.start(nodes=1, grpc_tls=tls) as secure:
        secure.wait_ready(20)
        url = secure.nodes[0].grpc_url
        assert url is not None
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(tls.certificate))
        context.set_alpn_protocols(["h2"])
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            assert wrapped.selected_alpn_protocol() == "h2"
        credentials = grpc.ssl_channel_credentials(tls.certificate.read_bytes())
        with GrpcClient(secure.nodes[0], credentials, server_name="localhost") as client:
            assert client.call(NODE_STATE, Empty()).node_id == "node-1"


@pytest.mark.parametrize("broken", ["certificate", "key"])
def test_wrong_certificates_are_named(tmp_path: Path, broken: str) -> None:
    """A file that is no certificate, or a key of another one, stops the start with its name."""
    (tmp_path / "other").mkdir()
    tls, other = self_signed(tmp_path), self_signed(tmp_path / "other")
    if broken == "certificate":
        tls.certificate.write_text("no certificate")
    else:
        tls.key.write_bytes(other.key.read_bytes())
    with pytest.raises(HarnessError, match=r"node\.crt.*a certificate and its key, in PEM"):
        Cluster.start(nodes=1, grpc_tls=tls)


def test_grpc_can_be_left_out() -> None:
    """A cluster without gRPC says so, and its REST is as ever."""
    with Cluster.start(nodes=1, grpc_port=None) as plain:
        plain.wait_ready(20)
        assert plain.nodes[0].grpc_url is None
        assert "grpc_server" not in str(ask(plain.nodes[0], "GET", "/q/metrics")[1])
