from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Timestamp(_message.Message):
    __slots__ = ("seconds", "nanos", "iso8601")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    ISO8601_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    iso8601: str
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ..., iso8601: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("code", "message", "details")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OK: _ClassVar[Status.Code]
        INVALID_ARGUMENT: _ClassVar[Status.Code]
        DEADLINE_EXCEEDED: _ClassVar[Status.Code]
        NOT_FOUND: _ClassVar[Status.Code]
        ALREADY_EXISTS: _ClassVar[Status.Code]
        PERMISSION_DENIED: _ClassVar[Status.Code]
        RESOURCE_EXHAUSTED: _ClassVar[Status.Code]
        FAILED_PRECONDITION: _ClassVar[Status.Code]
        ABORTED: _ClassVar[Status.Code]
        INTERNAL: _ClassVar[Status.Code]
        UNAVAILABLE: _ClassVar[Status.Code]
    OK: Status.Code
    INVALID_ARGUMENT: Status.Code
    DEADLINE_EXCEEDED: Status.Code
    NOT_FOUND: Status.Code
    ALREADY_EXISTS: Status.Code
    PERMISSION_DENIED: Status.Code
    RESOURCE_EXHAUSTED: Status.Code
    FAILED_PRECONDITION: Status.Code
    ABORTED: Status.Code
    INTERNAL: Status.Code
    UNAVAILABLE: Status.Code
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: Status.Code
    message: str
    details: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[_Union[Status.Code, str]] = ..., message: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GRPCTransaction(_message.Message):
    __slots__ = ("transaction_hash", "sender", "receiver", "amount", "nonce", "gas_price", "gas_limit", "payload", "signature", "timestamp", "status", "fee", "priority")
    TRANSACTION_HASH_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    GAS_PRICE_FIELD_NUMBER: _ClassVar[int]
    GAS_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    transaction_hash: str
    sender: str
    receiver: str
    amount: int
    nonce: int
    gas_price: int
    gas_limit: int
    payload: bytes
    signature: str
    timestamp: Timestamp
    status: str
    fee: int
    priority: int
    def __init__(self, transaction_hash: _Optional[str] = ..., sender: _Optional[str] = ..., receiver: _Optional[str] = ..., amount: _Optional[int] = ..., nonce: _Optional[int] = ..., gas_price: _Optional[int] = ..., gas_limit: _Optional[int] = ..., payload: _Optional[bytes] = ..., signature: _Optional[str] = ..., timestamp: _Optional[_Union[Timestamp, _Mapping]] = ..., status: _Optional[str] = ..., fee: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class SubmitTransactionRequest(_message.Message):
    __slots__ = ("transaction", "wait_for_confirmation", "confirmation_timeout_ms")
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    transaction: GRPCTransaction
    wait_for_confirmation: bool
    confirmation_timeout_ms: int
    def __init__(self, transaction: _Optional[_Union[GRPCTransaction, _Mapping]] = ..., wait_for_confirmation: _Optional[bool] = ..., confirmation_timeout_ms: _Optional[int] = ...) -> None: ...

class SubmitTransactionResponse(_message.Message):
    __slots__ = ("transaction_hash", "status", "message", "accepted_at")
    TRANSACTION_HASH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    transaction_hash: str
    status: Status
    message: str
    accepted_at: Timestamp
    def __init__(self, transaction_hash: _Optional[str] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., message: _Optional[str] = ..., accepted_at: _Optional[_Union[Timestamp, _Mapping]] = ...) -> None: ...

class BatchTransactionRequest(_message.Message):
    __slots__ = ("transactions", "ordered")
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    transactions: _containers.RepeatedCompositeFieldContainer[GRPCTransaction]
    ordered: bool
    def __init__(self, transactions: _Optional[_Iterable[_Union[GRPCTransaction, _Mapping]]] = ..., ordered: _Optional[bool] = ...) -> None: ...

class BatchTransactionResponse(_message.Message):
    __slots__ = ("responses", "total_processed", "successful", "failed", "overall_status")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    SUCCESSFUL_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    OVERALL_STATUS_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[SubmitTransactionResponse]
    total_processed: int
    successful: int
    failed: int
    overall_status: Status
    def __init__(self, responses: _Optional[_Iterable[_Union[SubmitTransactionResponse, _Mapping]]] = ..., total_processed: _Optional[int] = ..., successful: _Optional[int] = ..., failed: _Optional[int] = ..., overall_status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class ConsensusMetrics(_message.Message):
    __slots__ = ("leader_id", "current_term", "total_nodes", "quorum_size", "log_index", "commit_index")
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TERM_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NODES_FIELD_NUMBER: _ClassVar[int]
    QUORUM_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    leader_id: str
    current_term: int
    total_nodes: int
    quorum_size: int
    log_index: int
    commit_index: int
    def __init__(self, leader_id: _Optional[str] = ..., current_term: _Optional[int] = ..., total_nodes: _Optional[int] = ..., quorum_size: _Optional[int] = ..., log_index: _Optional[int] = ..., commit_index: _Optional[int] = ...) -> None: ...

class NodeState(_message.Message):
    __slots__ = ("node_id", "role", "current_term", "voted_for", "commit_index", "last_applied", "last_heartbeat", "is_healthy")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FOLLOWER: _ClassVar[NodeState.Role]
        CANDIDATE: _ClassVar[NodeState.Role]
        LEADER: _ClassVar[NodeState.Role]
    FOLLOWER: NodeState.Role
    CANDIDATE: NodeState.Role
    LEADER: NodeState.Role
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TERM_FIELD_NUMBER: _ClassVar[int]
    VOTED_FOR_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_APPLIED_FIELD_NUMBER: _ClassVar[int]
    LAST_HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    IS_HEALTHY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    role: NodeState.Role
    current_term: int
    voted_for: str
    commit_index: int
    last_applied: int
    last_heartbeat: Timestamp
    is_healthy: bool
    def __init__(self, node_id: _Optional[str] = ..., role: _Optional[_Union[NodeState.Role, str]] = ..., current_term: _Optional[int] = ..., voted_for: _Optional[str] = ..., commit_index: _Optional[int] = ..., last_applied: _Optional[int] = ..., last_heartbeat: _Optional[_Union[Timestamp, _Mapping]] = ..., is_healthy: _Optional[bool] = ...) -> None: ...

class SignRequest(_message.Message):
    __slots__ = ("message", "key_id", "algorithm")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    key_id: str
    algorithm: str
    def __init__(self, message: _Optional[bytes] = ..., key_id: _Optional[str] = ..., algorithm: _Optional[str] = ...) -> None: ...

class SignResponse(_message.Message):
    __slots__ = ("signature", "key_id", "signed_at", "status")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNED_AT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    key_id: str
    signed_at: Timestamp
    status: Status
    def __init__(self, signature: _Optional[bytes] = ..., key_id: _Optional[str] = ..., signed_at: _Optional[_Union[Timestamp, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("message", "signature", "key_id", "algorithm")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    signature: bytes
    key_id: str
    algorithm: str
    def __init__(self, message: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[str] = ..., algorithm: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("is_valid", "status", "verified_at")
    IS_VALID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_AT_FIELD_NUMBER: _ClassVar[int]
    is_valid: bool
    status: Status
    verified_at: Timestamp
    def __init__(self, is_valid: _Optional[bool] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., verified_at: _Optional[_Union[Timestamp, _Mapping]] = ...) -> None: ...
