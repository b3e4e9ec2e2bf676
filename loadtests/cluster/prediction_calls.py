"""AIOptimizationGrpcService: what resources the waiting work will take.

No model of anything: a straight line. Work that waits is assumed to be done within the
horizon, on top of the present rate, and every resource to grow in proportion to the rate:

    factor = (current_tps + pending / horizon_s) / current_tps     (1 at a rate of 0, at most 1000)

The confidence is 1 / factor: full where nothing is extrapolated, and less the further it is.
"""

from __future__ import annotations

import math
from typing import Final

from grpc import StatusCode

from loadtests.cluster.generated.ai_optimization_pb2 import (
    DESCRIPTOR,
    ResourceMetrics,
    ResourcePrediction,
)
from loadtests.cluster.grpc_calls import RefusedCallError, Service

HORIZON_S: Final = 60
_WARNING_PERCENT: Final = 80.0
_FULL_PERCENT: Final = 100.0
_MAX_FACTOR: Final = 1_000.0
_MAX_INT64: Final = 2**63 - 1


def build_prediction_service() -> Service:
    """The service as it is registered."""
    return Service(
        descriptor=DESCRIPTOR.services_by_name["AIOptimizationGrpcService"],
        handlers={"predictResourceUsage": predict},
        is_probe=False,
    )


def predict(seen: ResourceMetrics) -> ResourcePrediction:
    """Extrapolate; RefusedCallError for figures that cannot be."""
    for descriptor, value in seen.ListFields():
        if not 0 <= value < math.inf:
            raise RefusedCallError(
                StatusCode.INVALID_ARGUMENT, f"{descriptor.name} must be a number from 0"
            )
    extra_tps = seen.pending_transactions / HORIZON_S
    factor = 1 + extra_tps / seen.current_tps if seen.current_tps else 1.0
    factor = min(factor, _MAX_FACTOR)
    percents = {
        "cpu": min(_FULL_PERCENT, seen.cpu_usage_percent * factor),
        "memory": min(_FULL_PERCENT, seen.memory_usage_percent * factor),
    }
    return ResourcePrediction(
        predicted_cpu_percent=percents["cpu"],
        predicted_memory_percent=percents["memory"],
        predicted_network_mbps=seen.network_usage_mbps * factor,
        # Never below what was seen, which a float cannot hold exactly from 2^53 on.
        peak_disk_io=max(
            seen.disk_io_operations, min(_MAX_INT64, round(seen.disk_io_operations * factor))
        ),
        confidence=1 / factor,
        prediction_reason=f"linear in the rate, {factor:.3f} times the present one",
        prediction_horizon_seconds=HORIZON_S,
        warning_flags=[
            f"{name}_above_{_WARNING_PERCENT:.0f}_percent"
            for name, percent in percents.items()
            if percent > _WARNING_PERCENT
        ],
    )
