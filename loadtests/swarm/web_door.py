"""On what terms the web UI opens: decided, and refused, before anything starts.

Loopback needs nothing. Any other address is reached by others, so it needs a login, and
TLS or the user's word that the network may read what passes. The token of the login comes
from the environment alone: an option would show in the process list and in the archive.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.errors import HarnessError, HeadroomError, Mistake, ScenarioError
from loadtests.plan.model import is_loopback

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8089  # Locust's
TOKEN_VARIABLE: Final = "HEADROOM_WEB_TOKEN"  # noqa: S105 - the name, not the token
SHORTEST_TOKEN: Final = 16  # characters: nobody guesses that many over a network
_SOURCE: Final = "web UI"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """Where a page of the master listens; port 0 takes a free one."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT

    def refused(self, what: str, error: OSError) -> HeadroomError:
        """What to raise where nothing can listen: a taken port is nobody's mistake."""
        where, seen = f"{self.host}:{self.port}", str(error)
        if error.errno == errno.EADDRINUSE:
            return HarnessError(where=what, seen=seen, expected=f"{where} to be free")
        mistake = Mistake(where=where, seen=seen, expected="an address of this host")
        return ScenarioError(what, (mistake,))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of a certificate chain and its key, PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDoor:
    """The terms. `names`: host names, besides IP addresses and localhost, that it answers to."""

    address: WebAddress
    token: str | None = field(default=None, repr=False)  # None: no login
    tls: TlsFiles | None = None
    is_read_only: bool = False
    names: tuple[str, ...] = ()
    base_path: str = ""  # Locust's --web-base-path

    @property
    def scheme(self) -> str:
        """Of its addresses."""
        return "http" if self.tls is None else "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWeb:
    """A web UI on some terms, and the module that judges for it as the run goes."""

    door: WebDoor
    judge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebWish:
    """What the user asked for, as the options say it; Locust's names where it has any."""

    address: WebAddress
    has_login: bool  # --web-login
    certificate: str  # --tls-cert; "" without
    key: str  # --tls-key
    is_clear_text_allowed: bool  # --web-without-tls
    is_read_only: bool  # --web-read-only
    names: tuple[str, ...]  # --web-name
    base_path: str = ""


def wish_of(options: Any, *, host: str, base_path: str = "") -> WebWish:
    """What the options of either way in say, which have the same names."""
    return WebWish(
        address=WebAddress(host=host, port=options.web_port),
        has_login=options.web_login,
        certificate=options.tls_cert,
        key=options.tls_key,
        is_clear_text_allowed=options.web_without_tls,
        is_read_only=options.web_read_only,
        names=tuple(options.web_name),
        base_path=base_path,
    )


def build_door(wish: WebWish, environment: MutableMapping[str, str]) -> WebDoor:
    """The terms that a wish comes to; ScenarioError with all that is wrong with it.

    The token is taken out of the environment: no process started later inherits it.
    """
    token = environment.pop(TOKEN_VARIABLE, "")
    mistakes = [*_login_mistakes(wish, token), *_tls_mistakes(wish)]
    if mistakes:
        raise ScenarioError(_SOURCE, tuple(mistakes))
    return WebDoor(
        address=wish.address,
        token=token if wish.has_login else None,
        tls=TlsFiles(certificate=wish.certificate, key=wish.key) if wish.certificate else None,
        is_read_only=wish.is_read_only,
        names=tuple(name.lower() for name in wish.names),
        base_path=wish.base_path.rstrip("/"),
    )


def _login_mistakes(wish: WebWish, token: str) -> list[Mistake]:
    host = wish.address.host or "all addresses"
    if not wish.has_login:
        if is_loopback(wish.address.host):
            return []
        return [
            Mistake(
                where="--web-host",
                seen=f"{host}, which others reach, without a login",
                expected=f"--web-login, and a token in {TOKEN_VARIABLE}; or 127.0.0.1",
            )
        ]
    if len(token) >= SHORTEST_TOKEN:
        return []
    seen = f"a token of {len(token)} characters in {TOKEN_VARIABLE}" if token else "no token"
    expected = f"{TOKEN_VARIABLE} of at least {SHORTEST_TOKEN} characters: openssl rand -hex 16"
    return [Mistake(where="--web-login", seen=seen, expected=expected)]


def _tls_mistakes(wish: WebWish) -> list[Mistake]:
    if bool(wish.certificate) != bool(wish.key):
        seen = "only one of --tls-cert and --tls-key"
        return [Mistake(where="--tls-cert", seen=seen, expected="both, or neither")]
    if wish.certificate:
        return _pair_mistakes(wish.certificate, wish.key)
    if is_loopback(wish.address.host) or wish.is_clear_text_allowed:
        return []
    expected = "--tls-cert and --tls-key; or --web-without-tls, which lets the network read it all"
    seen = f"{wish.address.host or 'all addresses'}, which others reach, without TLS"
    return [Mistake(where="--web-host", seen=seen, expected=expected)]


def _pair_mistakes(certificate: str, key: str) -> list[Mistake]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password given, OpenSSL would ask for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError is one
        seen = f"{certificate}, {key}: {error.strerror or error}"
        expected = "a certificate and its unencrypted key, both PEM"
        return [Mistake(where="--tls-cert", seen=seen, expected=expected)]
    return []
