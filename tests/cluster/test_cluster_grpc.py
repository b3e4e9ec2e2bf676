"""The gRPC methods of a real cluster, asked by grpcio's own client."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from cluster_clients import (
    TRANSACTIONS,
    GrpcClient,
    ask,
    code_of,
    held_ledger,
    post,
    scraped,
    wait_until,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from loadtests.cluster.crypto_calls import ALGORITHM
from loadtests.cluster.generated.ai_optimization_pb2 import ResourceMetrics
from loadtests.cluster.generated.aurigraph_v11_pb2 import (
    BatchTransactionRequest,
    GRPCTransaction,
    NodeState,
    SignRequest,
    Status,
    SubmitTransactionRequest,
    Timestamp,
    VerifyRequest,
)
from loadtests.cluster.launch import Cluster
from loadtests.cluster.transaction_calls import RECENT

pytestmark = pytest.mark.system

SUBMIT = "io.aurigraph.v11.grpc.TransactionService/SubmitTransaction"
BATCH = "io.aurigraph.v11.grpc.TransactionService/SubmitBatch"
GET = "io.aurigraph.v11.grpc.TransactionService/GetTransaction"
STREAM = "io.aurigraph.v11.grpc.TransactionService/StreamTransactions"
METRICS = "io.aurigraph.v11.grpc.ConsensusService/GetMetrics"
NODE_STATE = "io.aurigraph.v11.grpc.ConsensusService/GetNodeState"
SIGN = "io.aurigraph.v11.grpc.CryptoService/Sign"
VERIFY = "io.aurigraph.v11.grpc.CryptoService/Verify"
PREDICT = "io.aurigraph.v11.proto.AIOptimizationGrpcService/predictResourceUsage"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.start(nodes=2) as started:
        started.wait_ready(20)
        yield started


@pytest.fixture(scope="module")
def clients(cluster: Cluster) -> Iterator[list[GrpcClient]]:
    with ExitStack() as stack:
        yield [stack.enter_context(GrpcClient(node)) for node in cluster.nodes]


def submit(client: GrpcClient, transaction: GRPCTransaction, **fields: Any) -> Any:
    return client.call(SUBMIT, SubmitTransactionRequest(transaction=transaction, **fields))


def transaction(hash_: str, amount: int = 1) -> GRPCTransaction:
    return GRPCTransaction(transaction_hash=hash_, amount=amount)


def test_accepted_by_grpc_is_read_by_both_on_every_node(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """OK means committed: every node has the whole message by gRPC, id and amount by REST."""
    sent = GRPCTransaction(
        transaction_hash="whole",
        sender="alice",
        receiver="bob",
        amount=2**53,
        nonce=7,
        gas_price=-1,
        gas_limit=21_000,
        payload=bytes(range(256)),
        signature="signed",
        timestamp=Timestamp(seconds=5, nanos=6, iso8601="of the client"),
        status="PENDING",
        fee=3,
        priority=-2,
    )
    said = submit(clients[0], sent)
    assert (said.transaction_hash, said.status.code) == ("whole", Status.OK)
    assert said.accepted_at.seconds > 1_700_000_000
    for node, client in zip(cluster.nodes, clients, strict=True):
        found = client.call(GET, StringValue(value="whole"))
        assert found.status == "PROCESSED"
        found.status = sent.status
        assert found == sent
        status, body = ask(node, "GET", f"{TRANSACTIONS}/whole")
        assert (status, body["amount"], body["message"]) == (200, 2**53, said.message)


def test_accepted_by_rest_is_read_by_grpc_on_every_node(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """Whole amounts come back as they are; a fraction is refused, never rounded."""
    assert post(cluster.nodes[0], "rest-int", 12)[0] == 201
    assert post(cluster.nodes[0], "rest-float", 1e17)[0] == 201
    assert post(cluster.nodes[0], "rest-fraction", 0.5)[0] == 201
    for client in clients:
        found = client.call(GET, StringValue(value="rest-int"))
        assert (found.transaction_hash, found.amount, found.status) == ("rest-int", 12, "PROCESSED")
        assert found.timestamp.seconds > 1_700_000_000
        assert client.call(GET, StringValue(value="rest-float")).amount == 10**17
        code = code_of(client.call, GET, StringValue(value="rest-fraction"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        code = code_of(client.call, GET, StringValue(value="none"))
        assert code is grpc.StatusCode.NOT_FOUND


def test_a_hash_is_taken_once_by_either_protocol(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """A taken hash is ALREADY_EXISTS inside an answer, and 409 in REST; the first amount stays."""
    assert submit(clients[0], transaction("once", 1)).status.code == Status.OK
    again = submit(clients[1], transaction("once", 2))
    assert again.status.code == Status.ALREADY_EXISTS
    assert again.message == again.status.message != ""
    assert post(cluster.nodes[1], "once", 3)[0] == 409
    assert post(cluster.nodes[0], "once-rest", 4)[0] == 201
    assert submit(clients[0], transaction("once-rest")).status.code == Status.ALREADY_EXISTS
    assert clients[1].call(GET, StringValue(value="once")).amount == 1


def test_without_a_hash_the_message_is_the_identity(clients: list[GrpcClient]) -> None:
    """The hash is the SHA-256 of the message: the same message again is the same transaction."""
    sent = GRPCTransaction(sender="carol", amount=9, nonce=1)
    expected = hashlib.sha256(sent.SerializeToString(deterministic=True)).hexdigest()
    first = submit(clients[0], sent)
    assert (first.transaction_hash, first.status.code) == (expected, Status.OK)
    assert submit(clients[1], sent).status.code == Status.ALREADY_EXISTS
    other = submit(clients[1], GRPCTransaction(sender="carol", amount=9, nonce=2))
    assert other.status.code == Status.OK
    assert clients[1].call(GET, StringValue(value=expected)).sender == "carol"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"transaction": transaction("invalid", -1)},
        {"transaction": transaction("invalid", 2**53 + 1)},
        {"transaction": transaction("x" * 129)},
        {"transaction": transaction("nul\0")},
        {"transaction": transaction("invalid"), "confirmation_timeout_ms": -1},
    ],
)
def test_invalid_transactions_are_a_status_inside_an_answer(
    clients: list[GrpcClient], fields: dict[str, Any]
) -> None:
    """What REST answers with 400 is INVALID_ARGUMENT with a reason, and nothing is stored."""
    said = clients[0].call(SUBMIT, SubmitTransactionRequest(**fields))
    assert said.status.code == Status.INVALID_ARGUMENT
    assert said.message
    code = code_of(clients[0].call, GET, StringValue(value="invalid"))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("waits", [False, True])
def test_nothing_is_acknowledged_before_its_commit(
    cluster: Cluster, clients: list[GrpcClient], *, waits: bool
) -> None:
    """While nobody can commit there is no answer, asked to wait or not; afterwards it is stored."""
    request = SubmitTransactionRequest(
        transaction=transaction(f"held-{waits}"), wait_for_confirmation=waits
    )
    with held_ledger(cluster.store):
        code = code_of(clients[0].call, SUBMIT, request, timeout_s=0.5)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: ask(cluster.nodes[1], "GET", f"{TRANSACTIONS}/held-{waits}")[0] == 200)


def test_confirmation_that_does_not_come_in_time_is_told(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """After confirmation_timeout_ms the answer is DEADLINE_EXCEEDED: it may be stored later."""
    request = SubmitTransactionRequest(
        transaction=transaction("late"), wait_for_confirmation=True, confirmation_timeout_ms=50
    )
    with held_ledger(cluster.store):
        said = clients[0].call(SUBMIT, request)
        assert said.status.code == Status.DEADLINE_EXCEEDED
        code = code_of(clients[0].call, GET, StringValue(value="late"))
        assert code is grpc.StatusCode.NOT_FOUND
    wait_until(lambda: ask(cluster.nodes[1], "GET", f"{TRANSACTIONS}/late")[0] == 200)


def test_batch_tells_of_each_transaction(clients: list[GrpcClient]) -> None:
    """Responses stand in the order of the batch; the overall status is the first failure's."""
    ids = ["batch-a", "", "batch-a", "batch-b"]
    batch = [transaction(id_) for id_ in ids]
    batch.insert(2, transaction("batch-wrong", -1))
    said = clients[0].call(BATCH, BatchTransactionRequest(transactions=batch, ordered=True))
    codes = [one.status.code for one in said.responses]
    assert codes == [
        Status.OK,
        Status.OK,
        Status.INVALID_ARGUMENT,
        Status.ALREADY_EXISTS,
        Status.OK,
    ]
    hashes = [one.transaction_hash for one in said.responses]
    assert hashes[0] == hashes[3] == "batch-a"
    assert len(hashes[1]) == 64
    assert (said.total_processed, said.successful, said.failed) == (5, 3, 2)
    assert said.overall_status.code == Status.INVALID_ARGUMENT
    for id_ in (hashes[0], hashes[1], "batch-b"):
        assert clients[1].call(GET, StringValue(value=id_)).amount == 1
    whole = clients[1].call(BATCH, BatchTransactionRequest(transactions=[transaction("batch-c")]))
    assert (whole.successful, whole.overall_status.code) == (1, Status.OK)


@pytest.mark.parametrize("count", [0, 1_001])
def test_batches_have_a_size(clients: list[GrpcClient], count: int) -> None:
    """An empty batch, or one that REST would not take either, is refused as a whole."""
    batch = [transaction(f"too-many-{number}") for number in range(count)]
    said = clients[0].call(BATCH, BatchTransactionRequest(transactions=batch))
    assert said.overall_status.code == Status.INVALID_ARGUMENT
    assert (said.total_processed, len(said.responses)) == (0, 0)
    code = code_of(clients[0].call, GET, StringValue(value="too-many-0"))
    assert code is grpc.StatusCode.NOT_FOUND


def test_large_messages_come_back_whole(clients: list[GrpcClient]) -> None:
    """A payload of a megabyte is stored and returned; above grpcio's 4 MiB a call is refused."""
    sent = GRPCTransaction(transaction_hash="large", payload=os.urandom(1_000_000))
    assert submit(clients[0], sent).status.code == Status.OK
    assert clients[1].call(GET, StringValue(value="large")).payload == sent.payload
    huge = GRPCTransaction(transaction_hash="huge", payload=bytes(5_000_000))
    code = code_of(submit, clients[0], huge)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_stream_begins_with_the_recent_and_follows_every_node(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """The last transactions in their order, then each accepted one, by whichever node and way."""
    batch = [transaction(f"stream-{number}") for number in range(RECENT)]
    clients[0].call(BATCH, BatchTransactionRequest(transactions=batch))
    node = cluster.nodes[1]
    ended = "grpc_server_processing_duration_seconds_count"
    cancelled = {"method": "StreamTransactions", "statusCode": "CANCELLED"}
    before = scraped(node, ended, **cancelled)
    stream = clients[1].stream(STREAM, Empty())
    recent = [one.transaction_hash for one in itertools.islice(stream, RECENT)]
    assert recent == [one.transaction_hash for one in batch]
    assert post(cluster.nodes[0], "followed-fraction", 0.5)[0] == 201
    assert post(cluster.nodes[0], "followed-rest", 5)[0] == 201
    submit(clients[0], GRPCTransaction(transaction_hash="followed-grpc", sender="dave"))
    followed = list(itertools.islice(stream, 2))
    assert [one.transaction_hash for one in followed] == ["followed-rest", "followed-grpc"]
    assert (followed[0].amount, followed[1].sender) == (5, "dave")
    stream.cancel()
    wait_until(lambda: scraped(node, ended, **cancelled) == before + 1)
    sent = "grpc_server_responses_sent_messages_total"
    assert scraped(node, sent, method="StreamTransactions") == RECENT + 2


def test_stream_of_an_idle_ledger_stays_open_and_silent() -> None:
    """Without transactions nothing comes, and the stream ends by its deadline alone."""
    with Cluster.start(nodes=1) as idle:
        idle.wait_ready(20)
        with GrpcClient(idle.nodes[0]) as client:
            stream = client.stream(STREAM, Empty(), timeout_s=0.5)
            assert code_of(next, stream) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_consensus_is_that_of_the_rest(cluster: Cluster, clients: list[GrpcClient]) -> None:
    """Leader, term, height, roles and health are what REST reports; unknown nodes NOT_FOUND."""
    status = ask(cluster.nodes[0], "GET", "/api/v11/consensus/status")[1]
    submit(clients[0], transaction("consensus"))
    height = ask(cluster.nodes[0], "GET", "/api/v11/blockchain/latest")[1]["height"]
    for client in clients:
        said = client.call(METRICS, Empty())
        assert said.leader_id == status["leaderNodeId"]
        assert said.current_term == status["currentTerm"]
        assert (said.total_nodes, said.quorum_size) == (2, 2)
        assert said.log_index == said.commit_index >= height > 0
        states = [client.call(NODE_STATE, StringValue(value=node.name)) for node in cluster.nodes]
        leads = [one.role == NodeState.LEADER for one in states]
        assert leads == [node.name == status["leaderNodeId"] for node in cluster.nodes]
        assert {one.voted_for for one in states} == {status["leaderNodeId"]}
        assert all(one.is_healthy for one in states)
        assert all(abs(one.last_heartbeat.seconds - time.time()) < 60 for one in states)
        code = code_of(client.call, NODE_STATE, StringValue(value="none"))
        assert code is grpc.StatusCode.NOT_FOUND
    own = [client.call(NODE_STATE, Empty()).node_id for client in clients]
    assert own == [node.name for node in cluster.nodes]


def test_what_one_node_signs_another_verifies(clients: list[GrpcClient]) -> None:
    """A signature holds for its message and key alone, on every node; the algorithm is named."""
    signed = clients[0].call(SIGN, SignRequest(message=b"m", key_id="k", algorithm=ALGORITHM))
    assert (signed.key_id, signed.status.code) == ("k", Status.OK)
    for client, (message, key_id, is_valid) in itertools.product(
        clients, [(b"m", "k", True), (b"n", "k", False), (b"m", "l", False)]
    ):
        request = VerifyRequest(message=message, signature=signed.signature, key_id=key_id)
        said = client.call(VERIFY, request)
        assert (said.is_valid, said.status.code) == (is_valid, Status.OK)
    foreign = clients[0].call(SIGN, SignRequest(message=b"m", algorithm="DILITHIUM5"))
    assert (foreign.signature, foreign.status.code) == (b"", Status.INVALID_ARGUMENT)
    assert ALGORITHM in foreign.status.message
    request = VerifyRequest(
        message=b"m", signature=signed.signature, key_id="k", algorithm="DILITHIUM5"
    )
    said = clients[1].call(VERIFY, request)
    assert (said.is_valid, said.status.code) == (False, Status.INVALID_ARGUMENT)


def test_prediction_is_served(clients: list[GrpcClient]) -> None:
    """The prediction answers over the wire; figures that cannot be are INVALID_ARGUMENT."""
    seen = ResourceMetrics(cpu_usage_percent=50, current_tps=10, pending_transactions=600)
    assert clients[0].call(PREDICT, seen).predicted_cpu_percent == 100
    wrong = ResourceMetrics(cpu_usage_percent=float("nan"))
    code = code_of(clients[0].call, PREDICT, wrong)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_acknowledged_by_a_killed_node_is_not_lost() -> None:
    """Every OK of a node that is killed with calls under way is read back from another one."""
    with Cluster.start(nodes=2) as pair:
        pair.wait_ready(20)
        with GrpcClient(pair.nodes[0]) as killed, GrpcClient(pair.nodes[1]) as other:
            calls = [
                killed.begin(SUBMIT, SubmitTransactionRequest(transaction=transaction(f"k-{n}")))
                for n in range(200)
            ]
            calls[20].result()
            os.kill(pair.nodes[0].pid, signal.SIGKILL)
            codes = [code_of(call.result) for call in calls]
            told = [n for n, code in enumerate(codes) if code is grpc.StatusCode.OK]
            assert 20 in told
            for n in told:
                assert other.call(GET, StringValue(value=f"k-{n}")).transaction_hash == f"k-{n}"


def test_many_calls_at_once_are_all_answered_and_counted(
    cluster: Cluster, clients: list[GrpcClient]
) -> None:
    """A thousand calls on one connection: each has its own answer, and the scrape has them all."""
    node, labels = cluster.nodes[1], {"method": "SubmitTransaction", "methodType": "UNARY"}
    received = "grpc_server_requests_received_messages_total"
    before = scraped(node, received, **labels)
    calls = [
        clients[1].begin(SUBMIT, SubmitTransactionRequest(transaction=transaction(f"many-{n}")))
        for n in range(1_000)
    ]
    answers = [call.result() for call in calls]
    assert [one.transaction_hash for one in answers] == [f"many-{n}" for n in range(1_000)]
    assert {one.status.code for one in answers} == {Status.OK}
    assert scraped(node, received, **labels) == before + 1_000
