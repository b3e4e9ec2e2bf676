"""The TLS context of a run: verification is on unless the plan says otherwise.

Certificates and keys of the client stay on this host and are read here. ALPN offers the
one protocol that will be spoken, so that no server can answer in another.
"""

from __future__ import annotations

import ssl

from loadtests.errors import HarnessError
from loadtests.plan.model import Tls

_DEFAULT = Tls(
    verify=True,
    ca_pem=None,
    client_certificate_path=None,
    client_key_path=None,
    server_name=None,
)


def build_context(tls: Tls | None, *, alpn: str) -> ssl.SSLContext:
    """Build the context for all https nodes; HarnessError when a certificate cannot be used."""
    settings = tls or _DEFAULT
    where = "target.tls"
    try:
        context = ssl.create_default_context(cadata=settings.ca_pem)
        # Python 3.13 began to refuse certificates without an authority key identifier, as
        # many private CAs issue them: what a run measures must not depend on its Python.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.client_certificate_path is not None:
            where = "target.tls.client_certificate"
            context.load_cert_chain(settings.client_certificate_path, settings.client_key_path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise HarnessError(where=where, seen=str(error), expected="a usable certificate") from error
    context.set_alpn_protocols([alpn])
    return context


def server_name(tls: Tls | None, host: str) -> str:
    """Return the name for SNI and verification."""
    return tls.server_name if tls is not None and tls.server_name is not None else host
