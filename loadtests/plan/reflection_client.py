"""A process that asks one server for all its types: grpc.reflection.v1, else v1alpha.

    python -m loadtests.plan.reflection_client < question.json > descriptor-set

Every service that the server lists, the files that define them, and what those import. A
failure is one line on standard error and exit code 1. Messages of both versions are the
same on the wire, so those of v1alpha serve for both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import grpc
import msgspec
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from loadtests.plan.connecting import resolve_allowed
from loadtests.plan.reflection import Question

CALL_TIMEOUT_S: Final = 5.0
MOST_FILES: Final = 1000
VERSIONS: Final = ("v1", "v1alpha")
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # the target itself is asked
    ("grpc.max_receive_message_length", 16 << 20),
)


class ReflectionError(Exception):
    """The server answers, but not with types."""


def _channel(question: Question) -> grpc.Channel:
    """To an address that was checked: grpcio's own resolver would look the name up again."""
    endpoint, tls = question.endpoint, question.tls
    address, *_ = resolve_allowed(endpoint.host, endpoint.port, question.authorised)
    family = "ipv6" if ":" in address else "ipv4"
    target = f"{family}:[{address}]" if family == "ipv6" else f"{family}:{address}"
    target += f":{endpoint.port}"
    if endpoint.scheme == "http" or tls is None:
        authority = ("grpc.default_authority", endpoint.authority)
        return grpc.insecure_channel(target, options=(*_OPTIONS, authority))
    if not tls.verify:
        raise ReflectionError("saw tls.verify = false: grpcio's client cannot leave it out")
    key, certificate = tls.client_key_path, tls.client_certificate_path
    credentials = grpc.ssl_channel_credentials(
        root_certificates=None if tls.ca_pem is None else tls.ca_pem.encode(),
        private_key=None if key is None else Path(key).read_bytes(),
        certificate_chain=None if certificate is None else Path(certificate).read_bytes(),
    )
    name = ("grpc.ssl_target_name_override", tls.server_name or endpoint.host)
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, name))


class _Server:
    """One server's reflection service, in the version that it has."""

    def __init__(self, channel: grpc.Channel, version: str) -> None:
        self._call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )

    def _ask(
        self, requests: Iterable[ServerReflectionRequest]
    ) -> Iterator[ServerReflectionResponse]:
        for response in self._call(iter(list(requests)), timeout=CALL_TIMEOUT_S):
            if response.HasField("error_response"):
                raise ReflectionError(response.error_response.error_message)
            yield response

    def services(self) -> list[str]:
        """Full names of all services."""
        (response,) = self._ask([ServerReflectionRequest(list_services="*")])
        return [service.name for service in response.list_services_response.service]

    def _files(self, requests: Iterable[ServerReflectionRequest]) -> dict[str, FileDescriptorProto]:
        files = {}
        for response in self._ask(requests):
            for data in response.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(data)
                files[file.name] = file
        return files

    def descriptors(self) -> FileDescriptorSet:
        """All files of all services and what they import."""
        symbols = [ServerReflectionRequest(file_containing_symbol=name) for name in self.services()]
        files = self._files(symbols)
        while True:
            wanted = {name for file in files.values() for name in file.dependency} - files.keys()
            if len(files) + len(wanted) > MOST_FILES:
                raise ReflectionError(f"more than {MOST_FILES} files")
            if not wanted:
                return FileDescriptorSet(file=files.values())
            found = self._files(
                ServerReflectionRequest(file_by_filename=name) for name in sorted(wanted)
            )
            if not found.keys() & wanted:
                raise ReflectionError(f"no file {min(wanted)}, which others import")
            files |= found


def reflected(question: Question) -> bytes:
    """The descriptor set of one server."""
    with _channel(question) as channel:
        for version in VERSIONS:
            try:
                return _Server(channel, version).descriptors().SerializeToString()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED or version == VERSIONS[-1]:
                    raise ReflectionError(f"{error.code().name} {error.details()}") from error
    raise AssertionError("one of the versions has returned or raised")


def main() -> int:
    """One question, one answer."""
    try:
        question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
        sys.stdout.buffer.write(reflected(question))
    except (ReflectionError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
