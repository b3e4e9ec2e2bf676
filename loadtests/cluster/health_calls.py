"""grpc.health.v1: whether a node, or one of its services, should be sent requests.

The answer is that of `/q/health/ready`, the same for every service of the node, and for the
node as a whole (the empty name). Source: gRPC's health checking protocol. `Check` of an unknown
service is NOT_FOUND; `Watch` says SERVICE_UNKNOWN and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from grpc import StatusCode
from grpc_health.v1.health_pb2 import (
    DESCRIPTOR,
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from loadtests.cluster.grpc_calls import RefusedCallError, Service
from loadtests.cluster.workings import TICK_S

SERVICE: Final = DESCRIPTOR.services_by_name["Health"]


class HealthCalls:
    """Handlers; `names` are the services that are known."""

    def __init__(self, names: Iterable[str], is_ready: Callable[[], bool]) -> None:
        self._names = frozenset(names) | {""}
        self._is_ready = is_ready

    def service(self) -> Service:
        """The service as it is registered."""
        return Service(
            descriptor=SERVICE,
            handlers={"Check": self._check, "List": self._list, "Watch": self._watch},
            is_probe=True,
        )

    def _check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        if request.service not in self._names:
            raise RefusedCallError(StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return HealthCheckResponse(status=self._status(request.service))

    def _list(self, _: HealthListRequest) -> HealthListResponse:
        answers = {name: HealthCheckResponse(status=self._status(name)) for name in self._names}
        return HealthListResponse(statuses=answers)

    async def _watch(self, request: HealthCheckRequest) -> AsyncIterator[HealthCheckResponse]:
        """The status at once, then whenever it changes."""
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                yield HealthCheckResponse(status=status)
                told = status
            await asyncio.sleep(TICK_S)

    def _status(self, name: str) -> HealthCheckResponse.ServingStatus:
        if name not in self._names:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._is_ready() else HealthCheckResponse.NOT_SERVING
