from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ResourceMetrics(_message.Message):
    __slots__ = ("cpu_usage_percent", "memory_usage_percent", "network_usage_mbps", "disk_io_operations", "active_transactions", "pending_transactions", "current_tps", "timestamp")
    CPU_USAGE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_USAGE_MBPS_FIELD_NUMBER: _ClassVar[int]
    DISK_IO_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    PENDING_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TPS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    cpu_usage_percent: float
    memory_usage_percent: float
    network_usage_mbps: float
    disk_io_operations: int
    active_transactions: int
    pending_transactions: int
    current_tps: float
    timestamp: int
    def __init__(self, cpu_usage_percent: _Optional[float] = ..., memory_usage_percent: _Optional[float] = ..., network_usage_mbps: _Optional[float] = ..., disk_io_operations: _Optional[int] = ..., active_transactions: _Optional[int] = ..., pending_transactions: _Optional[int] = ..., current_tps: _Optional[float] = ..., timestamp: _Optional[int] = ...) -> None: ...

class ResourcePrediction(_message.Message):
    __slots__ = ("predicted_cpu_percent", "predicted_memory_percent", "predicted_network_mbps", "peak_disk_io", "confidence", "prediction_reason", "prediction_horizon_seconds", "warning_flags")
    PREDICTED_CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_MEMORY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_NETWORK_MBPS_FIELD_NUMBER: _ClassVar[int]
    PEAK_DISK_IO_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_REASON_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_HORIZON_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WARNING_FLAGS_FIELD_NUMBER: _ClassVar[int]
    predicted_cpu_percent: float
    predicted_memory_percent: float
    predicted_network_mbps: float
    peak_disk_io: int
    confidence: float
    prediction_reason: str
    prediction_horizon_seconds: int
    warning_flags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predicted_cpu_percent: _Optional[float] = ..., predicted_memory_percent: _Optional[float] = ..., predicted_network_mbps: _Optional[float] = ..., peak_disk_io: _Optional[int] = ..., confidence: _Optional[float] = ..., prediction_reason: _Optional[str] = ..., prediction_horizon_seconds: _Optional[int] = ..., warning_flags: _Optional[_Iterable[str]] = ...) -> None: ...
