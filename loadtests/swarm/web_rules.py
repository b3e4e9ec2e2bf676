"""Which requests the web UI answers: pure rules on what a request says of itself.

In this order, each a sentence when it is broken:

1. Host is an address, localhost or a name that the user gave: a page of a stranger whose
   name was pointed at us (DNS rebinding) names itself there.
2. Not from another origin: Origin is ours, Sec-Fetch-Site is same-origin or absent. Only
   opening a page by a link from elsewhere may be cross-site; it shows nothing to its author.
3. Logged in, where there is a login: cookie of a session, or `Authorization: Bearer`.
4. A POST is one of the few that are answered at all, and not in read-only mode, and it
   says where it comes from: browsers send Origin with every POST (Fetch standard, "append
   a request Origin header"), so one without is a script's, which has the token or says so.

What GET answers changes nothing: that is Locust's and our own routes' promise, tested.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from loadtests.swarm.web_door import WebDoor

LOGIN: Final = "/headroom/login"
LOGOUT: Final = "/headroom/logout"
STOP: Final = "/headroom/stop"
STOP_AT_ONCE: Final = "/headroom/stop-at-once"
STYLE: Final = "/headroom/page.css"
LOCUST_STOP: Final = "/stop"
LOCUST_START: Final = "/swarm"
_STOPS: Final = frozenset({STOP, STOP_AT_ONCE, LOCUST_STOP})
_BEFORE_LOGIN: Final = frozenset({LOGIN, STYLE})
_BEARER: Final = "bearer "


class Status(Enum):
    """How a request is refused."""

    LOG_IN = "303 See Other"
    UNAUTHORISED = "401 Unauthorized"
    FORBIDDEN = "403 Forbidden"
    METHOD = "405 Method Not Allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request says of itself; a header that it does not have is ""."""

    method: str
    path: str  # below the base path
    host: str
    origin: str
    site: str  # Sec-Fetch-Site
    mode: str  # Sec-Fetch-Mode
    destination: str  # Sec-Fetch-Dest
    authorisation: str
    cookie: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered."""

    status: Status
    text: str


def forbidden(text: str) -> Refusal:
    """403."""
    return Refusal(status=Status.FORBIDDEN, text=text)


class Rules:
    """The rules of one door; `is_session` knows the cookies that were given out."""

    def __init__(
        self, door: WebDoor, *, may_start: bool, is_session: Callable[[str], bool]
    ) -> None:
        self._door = door
        self._posts = _STOPS | {LOGIN, LOGOUT} | ({LOCUST_START} if may_start else frozenset())
        self._is_session = is_session

    def refusal(self, asked: Asked) -> Refusal | None:
        """Why a request is refused; None: it is answered."""
        if asked.method not in {"GET", "HEAD", "POST"}:
            text = f"saw {asked.method}; expected GET, HEAD or POST"
            return Refusal(status=Status.METHOD, text=text)
        return (
            self._of_host(asked)
            or self._of_origin(asked)
            or self._of_login(asked)
            or self._of_post(asked)
        )

    def is_token(self, text: str) -> bool:
        """Whether it is the token; takes as long whatever the text is."""
        token = self._door.token
        if token is None:
            return False
        seen, known = (hashlib.sha256(one.encode()).digest() for one in (text, token))
        return hmac.compare_digest(seen, known)

    @property
    def cookie_name(self) -> str:
        """Of sessions; cookies know no port, so the name has it."""
        return f"headroom_{self._door.address.port}"

    def _of_host(self, asked: Asked) -> Refusal | None:
        if names_no_stranger(asked.host) or _host_name(asked.host) in self._door.names:
            return None
        return forbidden(
            f"Host: saw {asked.host[:100]!r}; expected an address, localhost, or a name given "
            "with --web-name"
        )

    def _of_origin(self, asked: Asked) -> Refusal | None:
        is_from_elsewhere = asked.site not in {"", "none", "same-origin"}
        if asked.origin and not self._is_own(asked):
            is_from_elsewhere = True
        is_link = (
            asked.method != "POST"
            and not asked.origin
            and (asked.mode, asked.destination) == ("navigate", "document")
        )
        if is_from_elsewhere and not is_link:
            origin = asked.origin[:100] or asked.site[:20]
            return forbidden(f"Origin: saw {origin!r}; expected this page's own")
        return None

    def _is_own(self, asked: Asked) -> bool:
        try:
            origin = urlsplit(asked.origin)
        except ValueError:
            return False
        # Behind a proxy that ends TLS, https is the browser's and http ours.
        schemes = {"https"} if self._door.tls else {"http", "https"}
        return origin.scheme in schemes and origin.netloc.lower() == asked.host.lower()

    def _of_login(self, asked: Asked) -> Refusal | None:
        if self._door.token is None or asked.path in _BEFORE_LOGIN or self.is_logged_in(asked):
            return None
        if asked.method != "POST" and asked.mode == "navigate":
            return Refusal(status=Status.LOG_IN, text="log in first")
        text = "expected a login, or the header `Authorization: Bearer TOKEN`"
        return Refusal(status=Status.UNAUTHORISED, text=text)

    def is_logged_in(self, asked: Asked) -> bool:
        """By the token itself, or a session that it opened."""
        if self._has_token(asked):
            return True
        try:
            cookies = SimpleCookie(asked.cookie)
        except CookieError:
            return False
        morsel = cookies.get(self.cookie_name)
        return morsel is not None and self._is_session(morsel.value)

    def _has_token(self, asked: Asked) -> bool:
        is_bearer = asked.authorisation[: len(_BEARER)].lower() == _BEARER
        return is_bearer and self.is_token(asked.authorisation[len(_BEARER) :].strip())

    def _of_post(self, asked: Asked) -> Refusal | None:
        if asked.method != "POST":
            return None
        if self._door.is_read_only and asked.path not in {LOGIN, LOGOUT}:
            return forbidden("read-only: nothing can be changed here (--web-read-only)")
        if asked.path not in self._posts:
            return forbidden(f"POST {asked.path[:100]}: the run is not changed from here")
        if asked.origin or asked.site == "same-origin" or self._has_token(asked):
            return None
        return forbidden(
            "expected an Origin header (browsers send it), or `Authorization: Bearer TOKEN`"
        )


def names_no_stranger(host: str) -> bool:
    """True of a Host header that is an address or localhost: no page of a stranger has that."""
    name = _host_name(host)
    return name == "localhost" or _is_address(name)


def _host_name(host: str) -> str:
    """Without the port; "" for what is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
