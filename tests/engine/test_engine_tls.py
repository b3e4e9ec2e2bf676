"""TLS: verification is on, names and authorities count, clients can show a certificate."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from driver import EngineDriver, run_plan
from engine_plans import node, plan_for, request
from hostile_server import hostile_server, plain_server

from loadtests.clock import NS_PER_MS
from loadtests.engine.messages import EngineError
from loadtests.plan.model import Plan, Tls

pytestmark = pytest.mark.system

_NOW = dt.datetime.now(dt.UTC)
Key = ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._subject = subject
        builder = self._builder(subject, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.path = folder / f"{name}.pem"
        self.path.write_text(self.pem, encoding="ascii")

    def _builder(self, subject: x509.Name, key: Key, *, days: int = 1) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(days=2))
            .not_valid_after(_NOW + dt.timedelta(days=days))
        )

    def issue(self, *names: str, days: int = 1) -> tuple[str, str]:
        """Issue for DNS names and addresses; the paths of certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = (
            self._builder(subject, key, days=days)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self._folder / f"{self._name}-{names[0].replace(':', '_')}"
        certificate_path, key_path = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(certificate_path), str(key_path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that the plan trusts."""
    return Authority(tmp_path, "good")


def server_context(files: tuple[str, str], *, client_ca: Authority | None = None) -> ssl.SSLContext:
    """A server that shows this certificate, and may demand one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.pem)
    return context


def tls_plan(
    port: int,
    *,
    ca_pem: str | None,
    verify: bool = True,
    server_name: str | None = None,
    client: tuple[str, str] | None = None,
    connections: int = 4,
) -> Plan:
    """50 requests over TLS."""
    tls = Tls(
        verify=verify,
        ca_pem=ca_pem,
        client_certificate_path=client[0] if client else None,
        client_key_path=client[1] if client else None,
        server_name=server_name,
    )
    return plan_for(
        port,
        [request("/ok"), request("/chunked")],
        level=100,
        seconds=0.5,
        connections=connections,
        nodes=(node(port, scheme="https"),),
        tls=tls,
    )


def test_a_trusted_server_is_loaded(authority: Authority) -> None:
    """A certificate of the plan's own authority for the node's address is accepted."""
    with hostile_server(context=server_context(authority.issue("127.0.0.1"))) as server:
        result = run_plan(tls_plan(server.port, ca_pem=authority.pem))
    result.check_conservation()
    assert result.final.ok == 50
    assert server.connections == 4
    assert server.protocols == ["http/1.1"] * 4  # offered alone: the server would take h2


def test_a_plan_without_tls_settings_verifies(authority: Authority) -> None:
    """An https node is enough for verification by the system's certificates."""
    with hostile_server(context=server_context(authority.issue("127.0.0.1"))) as server:
        plan = dataclasses.replace(tls_plan(server.port, ca_pem=None), tls=None)
        seen = refusal_of(plan)
    assert "CERTIFICATE_VERIFY_FAILED" in seen
    assert server.seen.total() == 0


def test_tls_over_ipv6(authority: Authority) -> None:
    """An IPv6 address is verified as one, and is no server name to send (RFC 6066, 3)."""
    context = server_context(authority.issue("::1"))
    names: list[str | None] = []
    context.sni_callback = lambda _object, name, _context: names.append(name)
    with hostile_server(host="::1", context=context) as server:
        plan = tls_plan(server.port, ca_pem=authority.pem)
        nodes = (node(server.port, scheme="https", host="::1"),)
        result = run_plan(dataclasses.replace(plan, nodes=nodes))
    assert result.final.ok == 50
    assert names == [None] * 4


@pytest.mark.parametrize("ca_pem", ["other", "system"])
def test_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path, ca_pem: str) -> None:
    """Verification is on: neither another authority nor the system's list will do."""
    pem = Authority(tmp_path, "other").pem if ca_pem == "other" else None
    with hostile_server(context=server_context(authority.issue("127.0.0.1"))) as server:
        with pytest.raises(AssertionError, match=r"tls.*CERTIFICATE_VERIFY_FAILED"):
            run_plan(tls_plan(server.port, ca_pem=pem))
        assert server.seen.total() == 0


def test_a_wrong_name_is_refused(authority: Authority) -> None:
    """A good certificate for somebody else is no certificate."""
    with hostile_server(context=server_context(authority.issue("example.test"))) as server:
        with pytest.raises(AssertionError, match="tls"):
            run_plan(tls_plan(server.port, ca_pem=authority.pem))
        assert server.seen.total() == 0


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    """Yesterday's certificate is no certificate."""
    files = authority.issue("127.0.0.1", days=-1)
    with (
        hostile_server(context=server_context(files)) as server,
        pytest.raises(AssertionError, match="tls"),
    ):
        run_plan(tls_plan(server.port, ca_pem=authority.pem))


def test_the_server_name_is_sent_and_verified(authority: Authority) -> None:
    """SNI carries the plan's server name, and the certificate must be for it."""
    context = server_context(authority.issue("service.test"))
    names: list[str | None] = []
    context.sni_callback = lambda _object, name, _context: names.append(name)
    with hostile_server(context=context) as server:
        result = run_plan(tls_plan(server.port, ca_pem=authority.pem, server_name="service.test"))
    assert result.final.ok == 50
    assert names == ["service.test"] * 4


def test_a_nodes_own_name_is_sent_and_verified(authority: Authority) -> None:
    """Without a server name in the plan the node's host name is the one."""
    context = server_context(authority.issue("localhost"))
    names: list[str | None] = []
    context.sni_callback = lambda _object, name, _context: names.append(name)
    with hostile_server(context=context) as server:
        plan = tls_plan(server.port, ca_pem=authority.pem)
        nodes = (node(server.port, scheme="https", host="localhost"),)
        result = run_plan(dataclasses.replace(plan, nodes=nodes))
    assert result.final.ok == 50
    assert set(names) == {"localhost"}


def test_verification_can_be_switched_off_by_the_plan(authority: Authority) -> None:
    """Only a plan that says so loads a server that cannot be verified."""
    with hostile_server(context=server_context(authority.issue("example.test"))) as server:
        result = run_plan(tls_plan(server.port, ca_pem=None, verify=False))
    assert result.final.ok == 50


def test_a_client_certificate_is_shown(authority: Authority) -> None:
    """A server that demands a certificate gets the plan's."""
    context = server_context(authority.issue("127.0.0.1"), client_ca=authority)
    with hostile_server(context=context) as server:
        client = authority.issue("engine")
        result = run_plan(tls_plan(server.port, ca_pem=authority.pem, client=client))
    assert result.final.ok == 50
    assert all(server.client_certificates)


def refusal_of(plan: Plan) -> str:
    """What an engine has seen that cannot start on the plan."""
    with EngineDriver(plan) as driver:
        answer = driver.configure()
    assert isinstance(answer, EngineError), answer
    assert answer.family == "target"
    return answer.seen


@pytest.mark.parametrize(
    ("version", "alert"),
    [
        (ssl.TLSVersion.TLSv1_3, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        (ssl.TLSVersion.TLSv1_2, "ALERT_HANDSHAKE_FAILURE"),
    ],
)
def test_a_demanded_certificate_is_named(
    authority: Authority, version: ssl.TLSVersion, alert: str
) -> None:
    """TLS 1.3 refuses after the handshake, 1.2 in it: either way before load, by its alert."""
    context = server_context(authority.issue("127.0.0.1"), client_ca=authority)
    context.maximum_version = version

    def behave(peer: socket.socket, _number: int) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(1)

    with plain_server(behave) as port:
        seen = refusal_of(tls_plan(port, ca_pem=authority.pem))
    assert seen.startswith("tls (n1: ")
    assert alert in seen


def test_a_server_that_only_closes_after_the_handshake_is_no_target(authority: Authority) -> None:
    """Without an alert the end of the connection is what can be told; nothing is sent."""
    context = server_context(authority.issue("127.0.0.1"))

    def behave(peer: socket.socket, _number: int) -> None:
        context.wrap_socket(peer, server_side=True).close()

    with plain_server(behave) as port:
        seen = refusal_of(tls_plan(port, ca_pem=authority.pem))
    assert re.match(r"(closed_before_response|reset) \(n1: ", seen)


def test_a_refusal_is_named_beside_the_silence_that_followed(authority: Authority) -> None:
    """Refused first, unanswered later: the last refusal is told as well as the time-out."""
    context = server_context(authority.issue("example.test"))
    silent: list[socket.socket] = []

    def behave(peer: socket.socket, number: int) -> None:
        if number == 0:
            context.wrap_socket(peer, server_side=True)
        silent.append(peer)

    plan = tls_plan(0, ca_pem=authority.pem, connections=1)
    with plain_server(behave) as port:
        nodes = (node(port, scheme="https"),)
        timeout_ns = 800 * NS_PER_MS
        seen = refusal_of(dataclasses.replace(plan, nodes=nodes, connect_timeout_ns=timeout_ns))
    timed_out, refused = seen.split("; ")
    assert timed_out == "connect_timeout (n1: no connection after 0.8 s)"
    assert refused.startswith("tls (n1: ")
    assert "CERTIFICATE_VERIFY_FAILED" in refused
