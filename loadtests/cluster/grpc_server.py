"""The gRPC of a node: grpcio's own server on the node's loop, and the services that it has.

Owns the listener, what is served there and the end of it. The HTTP/2 is grpcio's, so that a
load generator never meets its own code here. It runs in the node's process and on its loop:
`grpc.aio` costs the same on uvloop as on asyncio's own loop, and one process shares ledger,
limiter and truth with the REST without asking anyone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from loadtests.cluster.consensus_calls import ConsensusCalls
from loadtests.cluster.crypto_calls import CryptoCalls
from loadtests.cluster.grpc_calls import Service
from loadtests.cluster.grpc_site import GrpcSite
from loadtests.cluster.health_calls import HealthCalls
from loadtests.cluster.options import NodeOptions, ServerTls, show_address
from loadtests.cluster.prediction_calls import build_prediction_service
from loadtests.cluster.transaction_calls import TransactionCalls
from loadtests.cluster.workings import GRACE_S, TICK_S, Workings
from loadtests.errors import HarnessError

# A taken port is an error, not a second server on it. No limit of streams is set: grpcio counts
# a stream until the last of its call is freed, and would refuse those of a client that keeps to
# the limit.
_OPTIONS: Final = (("grpc.so_reuseport", 0),)


def build_services(workings: Workings, is_ready: Callable[[], bool]) -> tuple[Service, ...]:
    """Everything that a node serves, the probes included."""
    services = (
        TransactionCalls(workings).service(),
        ConsensusCalls(workings).service(),
        CryptoCalls(workings.store.secret()).service(),
        build_prediction_service(),
    )
    names = [service.descriptor.full_name for service in services]
    health = HealthCalls(names, is_ready).service()
    return *services, health, _reflection_of([*names, health.descriptor.full_name])


class GrpcServer:
    """A node's gRPC; made and used on its loop."""

    def __init__(self, workings: Workings, is_ready: Callable[[], bool]) -> None:
        self._site = GrpcSite(workings, build_services(workings, is_ready))
        self._server = grpc.aio.server(handlers=[self._site], options=_OPTIONS)

    def open(self, options: NodeOptions) -> str:
        """Take the port, and return the URL; HarnessError names a port that is taken."""
        port, tls = options.grpc_port or 0, options.grpc_tls
        address = show_address(options.host, port)
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _load_credentials(tls))
        except RuntimeError as error:
            where, expected = f"cluster gRPC listener {address}", f"port {port} to be free"
            raise HarnessError(where=where, seen=str(error), expected=expected) from error
        return f"{'https' if tls else 'http'}://{show_address(options.host, port)}"

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    async def drain(self) -> None:
        """Answer what is under way, end the streams, close; the node says already that it drains.

        For two ticks it goes on as before, so that who watches its health is told, and who has
        a request on the wire is answered.
        """
        await asyncio.sleep(2 * TICK_S)
        self._site.drain()
        await self._server.stop(GRACE_S)


def _load_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Checked by the standard library first: grpcio says nothing of what is wrong with them."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    except OSError as error:
        raise HarnessError(
            where=f"cluster gRPC certificate {tls.certificate}, key {tls.key}",
            seen=str(error),
            expected="a certificate and its key, in PEM",
        ) from error
    return grpc.ssl_server_credentials([pair])


def _reflection_of(names: list[str]) -> Service:
    """Server reflection of these services, and of itself."""
    answers = reflection.aio.ReflectionServicer([*names, reflection.SERVICE_NAME])

    return Service(
        descriptor=reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
        handlers={"ServerReflectionInfo": lambda asked: answers.ServerReflectionInfo(asked, None)},
        is_probe=True,
    )
