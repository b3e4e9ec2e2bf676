"""Clients of a cluster under test: HTTP of the standard library, and grpcio's own."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from prometheus_client.parser import text_string_to_metric_families

from loadtests.cluster.launch import Node

TRANSACTIONS = "/api/v11/blockchain/transactions"
DEADLINE_S = 20.0


def ask(node: Node, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and decoded body of one request on a connection of its own."""
    connection = http.client.HTTPConnection(node.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if text and is_json else text.decode()
    finally:
        connection.close()


def wait_until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    """Return once it holds."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def post(node: Node, id_: str, amount: float = 1) -> tuple[int, Any]:
    return ask(node, "POST", TRANSACTIONS, {"transactionId": id_, "amount": amount})


@contextmanager
def held_ledger(store: Path) -> Iterator[None]:
    """Nobody can commit meanwhile: the lock by which nodes take turns is held here."""
    descriptor = os.open(f"{store}.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class GrpcClient:
    """A channel of grpcio to one node; a context manager."""

    def __init__(
        self,
        node: Node,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str = "localhost",
    ) -> None:
        assert node.grpc_url is not None
        scheme, _, address = node.grpc_url.partition("://")
        assert scheme == ("http" if credentials is None else "https")
        # A pool of subchannels of its own: clients of a test must not share a connection.
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
        if credentials is not None:
            options.append(("grpc.ssl_target_name_override", server_name))
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.channel.close()

    def call(self, method: str, request: Message, *, timeout_s: float = DEADLINE_S) -> Any:
        """The answer of a unary method, `pkg.Service/Method`; raises grpc.RpcError."""
        return self._unary(method)(request, timeout=timeout_s)

    def raw(self, path: str, data: bytes) -> bytes:
        """The bytes that a path answers to these bytes."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(path)
        return call(data, timeout=DEADLINE_S)

    def begin(self, method: str, request: Message, *, timeout_s: float = DEADLINE_S) -> Any:
        """A unary call under way; `result()` is its answer."""
        return self._unary(method).future(request, timeout=timeout_s)

    def stream(self, method: str, request: Message, *, timeout_s: float = DEADLINE_S) -> Any:
        """The messages of a server stream, as they come; `cancel()` ends it."""
        response = GetMessageClass(_descriptor_of(method).output_type)
        return self.channel.unary_stream(
            f"/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )(request, timeout=timeout_s)

    def _unary(self, method: str) -> grpc.UnaryUnaryMultiCallable[Any, Any]:
        return self.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=GetMessageClass(_descriptor_of(method).output_type).FromString,
        )


def _descriptor_of(method: str) -> MethodDescriptor:
    service, _, name = method.partition("/")
    return Default().FindServiceByName(service).methods_by_name[name]


def code_of(ask_node: Callable[..., object], *values: object, **named: Any) -> grpc.StatusCode:
    """The gRPC status that asking a node ends with."""
    try:
        ask_node(*values, **named)
    except grpc.RpcError as error:
        code = error.code()
        assert isinstance(code, grpc.StatusCode)
        return code
    return grpc.StatusCode.OK


def scraped(node: Node, name: str, **labels: str) -> float:
    """Sum of the samples of that name with these labels, in a node's scrape."""
    text = str(ask(node, "GET", "/q/metrics")[1])
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
