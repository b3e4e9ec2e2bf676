"""Types from the target itself: asked where load is allowed, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_schemas import CALLS, call, compiled, written

from loadtests.errors import TargetError
from loadtests.plan.authorisation import Configuration
from loadtests.plan.reflection import Reflect, reflector
from loadtests.plan.scenario import load_scenario, resolve
from loadtests.plan.schema import Schema, message_type

NOBODY = Configuration(path=None, targets=())
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def own_certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for `kinds.test`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kinds.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("kinds.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate.public_bytes(encoding), key.private_bytes(encoding, form, none)


@contextmanager
def reflecting_server(tls: tuple[bytes, bytes] | None = None) -> Iterator[int]:
    """The server of grpcio with its own reflection of kinds.v1, and no service behind it."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    names = ("kinds.v1.KindsService", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=kinds_and_reflection())
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        certificate, key = tls
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def kinds_and_reflection() -> DescriptorPool:
    """A pool that knows our types and the reflection service's own."""
    pool = Schema(compiled("kinds.proto")).pool
    pool.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    return pool


def test_types_can_come_from_the_target_itself(tmp_path: Path) -> None:
    """Server reflection of grpcio's server gives the same types as the protos."""
    text = CALLS.replace('protos = ["kinds.proto"]', "reflection = true")
    with reflecting_server() as port:
        path = written(tmp_path, text.replace("9104", str(port)))
        plan = resolve(load_scenario(path, reflect=reflector(NOBODY, NOW)))
        elsewhere = written(tmp_path, text.replace("9104", "1"))
        targets = (f"http://127.0.0.1:2,grpc=http://127.0.0.1:{port}",)
        other = load_scenario(elsewhere, targets=targets, reflect=reflector(NOBODY, NOW))
    assert call(plan, 0).response_type == "kinds.v1.Kinds"
    assert message_type(plan.descriptors, "kinds.v1.Kinds").fields_by_name["u64"].number == 7
    assert call(resolve(other, targets=targets), 0) == call(plan, 0)


def test_a_target_without_reflection_is_a_target_error(tmp_path: Path) -> None:
    """A server that does not answer is named, with what was expected."""
    text = CALLS.replace('protos = ["kinds.proto"]', "reflection = true").replace("9104", "1")
    with pytest.raises(TargetError, match="server reflection"):
        load_scenario(written(tmp_path, text), reflect=reflector(NOBODY, NOW))


def test_a_foreign_target_is_not_even_asked(tmp_path: Path) -> None:
    """Reflection asks only what may be loaded: base URL and gRPC port both."""
    text = CALLS.replace('protos = ["kinds.proto"]', "reflection = true")
    asked: Reflect = reflector(NOBODY, NOW)
    for target in (
        "http://192.0.2.1:9104",
        "http://127.0.0.1:1,grpc=http://192.0.2.1:9104",
    ):
        with pytest.raises(TargetError, match="not an authorised target"):
            load_scenario(written(tmp_path, text), targets=(target,), reflect=asked)


def test_types_come_over_tls_as_the_plan_verifies_it(tmp_path: Path) -> None:
    """The CA and the name of `[target.tls]` are used; what cannot be verified is not asked."""
    certificate, key = own_certificate()
    (tmp_path / "ca.pem").write_bytes(certificate)
    text = CALLS.replace('protos = ["kinds.proto"]', "reflection = true")
    tls = '\n[target.tls]\nca_file = "ca.pem"\nserver_name = "kinds.test"\n'
    with reflecting_server((certificate, key)) as port:
        target = f"https://127.0.0.1:{port}"
        text = text.replace("http://127.0.0.1:9104", target)
        path = written(tmp_path, text + tls)
        plan = resolve(load_scenario(path, reflect=reflector(NOBODY, NOW)))
        unverified = tls.replace('ca_file = "ca.pem"', "verify = false")
        for wrong, expected in (
            (tls.replace("kinds.test", "other.test"), "UNAVAILABLE"),
            (unverified, "verify = false"),
        ):
            with pytest.raises(TargetError, match=expected):
                load_scenario(written(tmp_path, text + wrong), reflect=reflector(NOBODY, NOW))
    assert call(plan, 0).response_type == "kinds.v1.Kinds"
