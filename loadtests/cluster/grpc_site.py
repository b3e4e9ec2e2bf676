"""The gRPC site: between grpcio's server and the services of one node.

The counterpart of `site.py`: owns counting and the behaviours on purpose. Laws: every call
that came in is counted once, whatever became of it, and under a behaviour no answer leaves
before the gate says so. The latency of a behaviour comes before an answer, or before the first
message of a stream; a stall holds every message. Times are those of grpcio's hand-over: it has
parsed HTTP/2 when a call is received here, and has yet to write when it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sqlite3
from collections.abc import AsyncIterator, Sequence
from time import monotonic_ns
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from loadtests.cluster.ground_truth import ABANDONED
from loadtests.cluster.grpc_calls import RefusedCallError, Service
from loadtests.cluster.grpc_metrics import MethodCounts
from loadtests.cluster.workings import Workings

TRUTH_METHOD: Final = b"GRPC"  # in the ground truth, where REST has its verb
_REFUSALS: Final = {
    429: (StatusCode.RESOURCE_EXHAUSTED, "rate limit"),
    500: (StatusCode.INTERNAL, "an error on purpose"),
    503: (StatusCode.UNAVAILABLE, "an error on purpose"),
}
_SHUTTING_DOWN: Final = (StatusCode.UNAVAILABLE, "the node is shutting down")
_ANSWERS: Final = (RefusedCallError, DecodeError, sqlite3.Error)  # errors that are a status

# In quotes: generic for mypy only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Call:
    """One call from its arrival to its end; UNKNOWN stays for what only a bug can cause."""

    __slots__ = ("code", "counts", "is_probe", "message", "path", "received_ns")

    def __init__(self, path: bytes, counts: MethodCounts, *, is_probe: bool) -> None:
        self.path = path
        self.counts = counts
        self.is_probe = is_probe
        self.received_ns = monotonic_ns()
        self.code = StatusCode.UNKNOWN
        self.message = ""

    def end(self, code: StatusCode, message: str = "") -> None:
        """It ends with this status."""
        self.code, self.message = code, message

    def end_with(self, error: Exception) -> None:
        """It ends with what one of `_ANSWERS` stands for."""
        match error:
            case RefusedCallError():
                self.end(error.code, str(error))
            case DecodeError():  # INTERNAL is what gRPC's guide to status codes has for it
                self.end(StatusCode.INTERNAL, f"the request cannot be parsed: {error}")
            case _:
                self.end(StatusCode.UNAVAILABLE, f"the ledger cannot be read: {error}")


class GrpcSite(grpc.GenericRpcHandler):
    """The methods of a node, as grpcio asks for them."""

    def __init__(self, workings: Workings, services: Sequence[Service]) -> None:
        self.draining = False
        self.streams: set[asyncio.Task[Any]] = set()
        self._workings = workings
        self._unknown = workings.metrics.grpc.unknown()
        self._by_path: dict[str, RpcHandler] = {}
        for service in services:
            for name in service.handlers:
                descriptor = service.descriptor.methods_by_name[name]
                counts = workings.metrics.grpc.method(descriptor)
                method = _Method(self, service, descriptor, counts)
                self._by_path[method.path.decode()] = method.rpc_handler()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> RpcHandler:
        """The handler of a path; never None, so that calls of unknown methods count as well."""
        handler = self._by_path.get(handler_call_details.method)
        if handler is None:
            refuse = functools.partial(self._refuse, handler_call_details.method.encode())
            handler = grpc.stream_stream_rpc_method_handler(cast("Any", refuse))
        return handler

    def drain(self) -> None:
        """End every stream as UNAVAILABLE: they would not end by themselves."""
        self.draining = True
        for task in tuple(self.streams):
            task.cancel()

    def admit(self, call: Call) -> None:
        """Raise RefusedCallError for a call that the behaviour refuses."""
        if self._workings.is_plain or call.is_probe:
            return
        status = self._workings.gate.refuse_status(call.received_ns)
        if status is not None:
            raise RefusedCallError(*_REFUSALS[status])

    async def hold(self, ready_ns: int, *, is_service: bool) -> None:
        """Wait until an answer that was ready at that time may leave."""
        if self._workings.is_plain:
            return
        leave_ns = self._workings.gate.leave_ns(ready_ns, service=is_service)
        if leave_ns > monotonic_ns():
            left = self._workings.loop.create_future()
            self._workings.deadlines.at(leave_ns, functools.partial(_release, left))
            await left

    def settle(self, call: Call) -> None:
        """Count a call that has ended."""
        now_ns = monotonic_ns()
        call.counts.end(call.code, now_ns - call.received_ns)
        if self._workings.truth is not None:
            replied_ns = ABANDONED if call.code is StatusCode.CANCELLED else now_ns
            code: int = call.code.value[0]
            self._workings.truth.note(call.received_ns, replied_ns, code, TRUTH_METHOD, call.path)

    async def _refuse(self, path: bytes, _: object, context: Context) -> None:
        call = Call(path, self._unknown, is_probe=False)
        call.end(StatusCode.UNIMPLEMENTED, "no such method")
        self.settle(call)
        await context.abort(call.code, call.message)


class _Method:
    """One method: takes its calls from grpcio as bytes, and has its handler answer them.

    Bytes, so that a request that cannot be parsed is counted like any other call.
    """

    def __init__(
        self, site: GrpcSite, service: Service, descriptor: MethodDescriptor, counts: MethodCounts
    ) -> None:
        self.path = f"/{service.descriptor.full_name}/{descriptor.name}".encode()
        self._site = site
        self._descriptor = descriptor
        self._counts = counts
        self._is_probe = service.is_probe
        self._parse = GetMessageClass(descriptor.input_type).FromString
        self._answer: Any = service.handlers[descriptor.name]
        self._is_late = inspect.iscoroutinefunction(self._answer)

    def rpc_handler(self) -> RpcHandler:
        """As grpcio wants it, which types handlers of its threads alone."""
        if not self._descriptor.server_streaming:
            return grpc.unary_unary_rpc_method_handler(cast("Any", self._unary))
        if self._descriptor.client_streaming:
            return grpc.stream_stream_rpc_method_handler(cast("Any", self._streaming))
        return grpc.unary_stream_rpc_method_handler(cast("Any", self._streaming))

    async def _unary(self, data: bytes, context: Context) -> bytes:
        call = Call(self.path, self._counts, is_probe=self._is_probe)
        payload = b""
        try:
            payload = await self._answered(call, data)
        except asyncio.CancelledError:
            call.end(StatusCode.CANCELLED)
            raise
        finally:
            self._site.settle(call)
        if call.code is not StatusCode.OK:
            await context.abort(call.code, call.message)
        self._counts.sent += 1
        return payload

    async def _answered(self, call: Call, data: bytes) -> bytes:
        """The answer once it may leave; empty if the call ends otherwise."""
        payload = b""
        # An answer made on the spot counts its latency from the request: an analytic
        # distribution is then met exactly.
        ready_ns = call.received_ns
        self._counts.received += 1
        try:
            self._site.admit(call)
            answer = self._answer(self._parse(data))
            if self._is_late:
                answer = await answer
                ready_ns = monotonic_ns()
            payload = answer.SerializeToString()
            call.end(StatusCode.OK)
        except _ANSWERS as error:
            call.end_with(error)
        await self._site.hold(ready_ns, is_service=not self._is_probe)
        return payload

    async def _streaming(self, asked: Any, context: Context) -> None:
        call = Call(self.path, self._counts, is_probe=self._is_probe)
        task = asyncio.current_task()
        assert task is not None
        self._site.streams.add(task)
        try:
            await self._streamed(call, asked, context)
        except asyncio.CancelledError:
            call.end(StatusCode.CANCELLED)
            if not self._site.draining:
                raise
            task.uncancel()
            call.end(*_SHUTTING_DOWN)
        finally:
            self._site.streams.discard(task)
            self._site.settle(call)
        if call.code is not StatusCode.OK:
            await context.abort(call.code, call.message)

    async def _streamed(self, call: Call, asked: Any, context: Context) -> None:
        is_first = True
        if not self._descriptor.client_streaming:
            self._counts.received += 1
        try:
            if self._site.draining:  # it came too late to be ended with the others
                raise RefusedCallError(*_SHUTTING_DOWN)
            self._site.admit(call)
            async with contextlib.aclosing(self._answer(self._parsed(asked))) as messages:
                async for message in messages:
                    await self._hold(call, is_first=is_first)
                    is_first = False
                    self._counts.sent += 1
                    await context.write(message.SerializeToString())
            call.end(StatusCode.OK)
        except _ANSWERS as error:
            call.end_with(error)
            await self._hold(call, is_first=is_first)

    async def _hold(self, call: Call, *, is_first: bool) -> None:
        """The first message of a stream is an answer to its call; the others only meet stalls."""
        ready_ns = call.received_ns if is_first else monotonic_ns()
        await self._site.hold(ready_ns, is_service=is_first and not self._is_probe)

    def _parsed(self, asked: Any) -> Any:
        is_stream = self._descriptor.client_streaming
        return self._each_parsed(asked) if is_stream else self._parse(asked)

    async def _each_parsed(self, asked: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for data in asked:
            self._counts.received += 1
            yield self._parse(data)


def _release(left: asyncio.Future[None]) -> None:
    if not left.done():  # the client may have gone meanwhile
        left.set_result(None)
