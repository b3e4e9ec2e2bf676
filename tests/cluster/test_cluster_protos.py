"""The project's own .proto files and the messages that protoc wrote from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from grpc_tools import protoc

from loadtests.cluster.generated import ai_optimization_pb2, aurigraph_v11_pb2

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "loadtests" / "cluster" / "generated"
PROTOS = ROOT / "protos"
KINDS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
}

# What the wire needs to know of the real service; written down apart from the .proto files.
AURIGRAPH = """\
package io.aurigraph.v11.grpc
TransactionService.SubmitTransaction SubmitTransactionRequest -> SubmitTransactionResponse
TransactionService.SubmitBatch BatchTransactionRequest -> BatchTransactionResponse
TransactionService.GetTransaction StringValue -> GRPCTransaction
TransactionService.StreamTransactions Empty -> stream GRPCTransaction
ConsensusService.GetMetrics Empty -> ConsensusMetrics
ConsensusService.GetNodeState StringValue -> NodeState
CryptoService.Sign SignRequest -> SignResponse
CryptoService.Verify VerifyRequest -> VerifyResponse
Timestamp 1 seconds int64
Timestamp 2 nanos int32
Timestamp 3 iso8601 string
Status 1 code enum
Status 2 message string
Status 3 details repeated DetailsEntry
Status.Code 0 OK
Status.Code 1 INVALID_ARGUMENT
Status.Code 2 DEADLINE_EXCEEDED
Status.Code 3 NOT_FOUND
Status.Code 4 ALREADY_EXISTS
Status.Code 5 PERMISSION_DENIED
Status.Code 6 RESOURCE_EXHAUSTED
Status.Code 7 FAILED_PRECONDITION
Status.Code 8 ABORTED
Status.Code 9 INTERNAL
Status.Code 10 UNAVAILABLE
GRPCTransaction 1 transaction_hash string
GRPCTransaction 2 sender string
GRPCTransaction 3 receiver string
GRPCTransaction 4 amount int64
GRPCTransaction 5 nonce int64
GRPCTransaction 6 gas_price int64
GRPCTransaction 7 gas_limit int64
GRPCTransaction 8 payload bytes
GRPCTransaction 9 signature string
GRPCTransaction 10 timestamp Timestamp
GRPCTransaction 11 status string
GRPCTransaction 12 fee int64
GRPCTransaction 13 priority int32
SubmitTransactionRequest 1 transaction GRPCTransaction
SubmitTransactionRequest 2 wait_for_confirmation bool
SubmitTransactionRequest 3 confirmation_timeout_ms int32
SubmitTransactionResponse 1 transaction_hash string
SubmitTransactionResponse 2 status Status
SubmitTransactionResponse 3 message string
SubmitTransactionResponse 4 accepted_at Timestamp
BatchTransactionRequest 1 transactions repeated GRPCTransaction
BatchTransactionRequest 2 ordered bool
BatchTransactionResponse 1 responses repeated SubmitTransactionResponse
BatchTransactionResponse 2 total_processed int32
BatchTransactionResponse 3 successful int32
BatchTransactionResponse 4 failed int32
BatchTransactionResponse 5 overall_status Status
ConsensusMetrics 1 leader_id string
ConsensusMetrics 2 current_term int64
ConsensusMetrics 3 total_nodes int64
ConsensusMetrics 4 quorum_size int32
ConsensusMetrics 5 log_index int64
ConsensusMetrics 6 commit_index int64
NodeState 1 node_id string
NodeState 2 role enum
NodeState 3 current_term int64
NodeState 4 voted_for string
NodeState 5 commit_index int64
NodeState 6 last_applied int64
NodeState 7 last_heartbeat Timestamp
NodeState 8 is_healthy bool
NodeState.Role 0 FOLLOWER
NodeState.Role 1 CANDIDATE
NodeState.Role 2 LEADER
SignRequest 1 message bytes
SignRequest 2 key_id string
SignRequest 3 algorithm string
SignResponse 1 signature bytes
SignResponse 2 key_id string
SignResponse 3 signed_at Timestamp
SignResponse 4 status Status
VerifyRequest 1 message bytes
VerifyRequest 2 signature bytes
VerifyRequest 3 key_id string
VerifyRequest 4 algorithm string
VerifyResponse 1 is_valid bool
VerifyResponse 2 status Status
VerifyResponse 3 verified_at Timestamp
"""
OPTIMIZATION = """\
package io.aurigraph.v11.proto
AIOptimizationGrpcService.predictResourceUsage ResourceMetrics -> ResourcePrediction
ResourceMetrics 1 cpu_usage_percent double
ResourceMetrics 2 memory_usage_percent double
ResourceMetrics 3 network_usage_mbps double
ResourceMetrics 4 disk_io_operations int64
ResourceMetrics 5 active_transactions int32
ResourceMetrics 6 pending_transactions int32
ResourceMetrics 7 current_tps double
ResourceMetrics 8 timestamp int64
ResourcePrediction 1 predicted_cpu_percent double
ResourcePrediction 2 predicted_memory_percent double
ResourcePrediction 3 predicted_network_mbps double
ResourcePrediction 4 peak_disk_io int64
ResourcePrediction 5 confidence double
ResourcePrediction 6 prediction_reason string
ResourcePrediction 7 prediction_horizon_seconds int64
ResourcePrediction 8 warning_flags repeated string
"""


def lines_of(file: FileDescriptor) -> Iterator[str]:
    """Everything that the wire depends on, a line each."""
    yield f"package {file.package}"
    for service in file.services_by_name.values():
        for method in service.methods:
            asked = f"{'stream ' * method.client_streaming}{method.input_type.name}"
            answered = f"{'stream ' * method.server_streaming}{method.output_type.name}"
            yield f"{service.name}.{method.name} {asked} -> {answered}"
    for message in file.message_types_by_name.values():
        yield from lines_of_message(message)


def lines_of_message(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        kind = KINDS[field.type] if field.message_type is None else field.message_type.name
        yield f"{message.name} {field.number} {field.name} {'repeated ' * field.is_repeated}{kind}"
    for enum in message.enum_types:
        for value in enum.values:
            yield f"{message.name}.{enum.name} {value.number} {value.name}"


def test_generated_messages_are_those_of_the_protos(tmp_path: Path) -> None:
    """protoc, run again, writes what is checked in: `make protos` has been run."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}"]
    arguments += [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main([*arguments, *map(str, sorted(PROTOS.glob("*.proto")))]) == 0
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in GENERATED.glob("*_pb2.py*")}
    assert written
    assert kept == written


def test_names_numbers_and_types_are_the_real_services() -> None:
    """Methods, field numbers, types and codes are the interface's, and nothing is invented."""
    assert "\n".join(lines_of(aurigraph_v11_pb2.DESCRIPTOR)) + "\n" == AURIGRAPH
    assert "\n".join(lines_of(ai_optimization_pb2.DESCRIPTOR)) + "\n" == OPTIMIZATION
