"""What the gRPC services of a node have in common: their shape, refusals, and Timestamps.

The counterpart of `routes.py`. A handler goes from message to message and knows neither
grpcio nor what else happens to its calls; `grpc_site.py` does.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc import StatusCode

from loadtests.clock import NS_PER_S
from loadtests.cluster.generated.aurigraph_v11_pb2 import Timestamp

# Messages differ from method to method, which descriptors say and no type can.
Handler = (
    Callable[[Any], Message]  # answers on the spot
    | Callable[[Any], Coroutine[Any, Any, Message]]  # answers later
    | Callable[[Any], AsyncIterator[Message]]  # answers with a stream
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service and the handler of each of its methods, by name.

    `is_probe`: it is asked about the node, not by its users; as in REST, only a stall strikes it.
    """

    descriptor: ServiceDescriptor
    handlers: Mapping[str, Handler]
    is_probe: bool


class RefusedCallError(Exception):
    """The call ends with this status instead of an answer."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def build_timestamp(unix_ns: int) -> Timestamp:
    """A moment of UTC."""
    seconds, nanos = divmod(unix_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1_000)
    return Timestamp(seconds=seconds, nanos=nanos, iso8601=moment.isoformat())


def now_timestamp() -> Timestamp:
    """Now, as a label."""
    return build_timestamp(time.time_ns())
