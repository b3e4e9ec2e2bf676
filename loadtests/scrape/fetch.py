"""One GET, bounded: in time from connecting to the last byte, and in bytes.

A connection of its own for each, so that a scrape neither holds one of the target's nor
depends on what became of it. Nothing is followed (a redirect is a failure), nothing is
decompressed (it was not asked for), and an address is used only if its host may be loaded.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httptools

from loadtests.plan.addresses import refusal
from loadtests.plan.call import Endpoint
from loadtests.record.server import ScrapeFailure
from loadtests.scrape.failure import ScrapeError

_READ_BYTES: Final = 64 * 1024
_MOST_HEAD_BYTES: Final = 32 * 1024
_MOST_OVERHEAD: Final = 4
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """How to ask: headers with their secrets filled in, and who may be asked."""

    headers: tuple[tuple[str, str], ...]
    authorised: Sequence[str]
    context: ssl.SSLContext | None  # of https
    server_name: str | None
    limit_bytes: int

    async def get(self, at: Endpoint, target: str, accept: str) -> Answer:
        """The answer to a GET, complete and of status 200; ScrapeError for anything else.

        Bounded in bytes here, in time by its caller.
        """
        reader, writer = await self._connect(at)
        try:
            writer.write(self._request(at, target, accept))
            return await self._read(reader)
        except (OSError, httptools.HttpParserError) as error:
            raise ScrapeError(ScrapeFailure.PROTOCOL, str(error)) from error
        finally:
            writer.transport.abort()

    async def _connect(self, at: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address of a host that answers, as `localhost` may have two."""
        context = self.context if at.scheme == "https" else None
        name = None if context is None else self.server_name or at.host
        failure = ScrapeError(ScrapeFailure.CONNECT, f"{at.host} has no address")
        for address in await self._resolve(at):
            try:
                return await asyncio.open_connection(
                    address, at.port, ssl=context, server_hostname=name
                )
            except ssl.SSLError as error:
                failure = ScrapeError(ScrapeFailure.TLS, str(error))
            except OSError as error:
                failure = ScrapeError(ScrapeFailure.CONNECT, str(error))
        raise failure

    async def _resolve(self, at: Endpoint) -> tuple[str, ...]:
        """All addresses of a host; ScrapeError unless every one of them may be asked."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ScrapeError(ScrapeFailure.CONNECT, f"{at.host}: {error}") from error
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            reason = refusal(at.host, address, self.authorised)
            if reason is not None:
                raise ScrapeError(ScrapeFailure.REFUSED, reason)
        return addresses

    def _request(self, at: Endpoint, target: str, accept: str) -> bytes:
        headers = (
            ("Host", at.authority),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "headroom"),
            ("Connection", "close"),
            *self.headers,
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii")

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        answer = Answer(self.limit_bytes)
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_complete:
            data = await reader.read(_READ_BYTES)
            if not data:
                break
            parser.feed_data(data)
            answer.check(len(data), parser.get_status_code())
        if not answer.is_complete and not answer.ends_with_connection:
            raise ScrapeError(ScrapeFailure.PROTOCOL, "the answer broke off")
        return answer


class Answer:
    """An answer as it comes in; httptools calls its `on_` methods, which must not raise."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._seen_bytes = self._body_bytes = 0
        self._pieces: list[bytes] = []
        self._has_head = False
        self.headers: dict[str, str] = {}
        self.is_complete = False

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)

    @property
    def ends_with_connection(self) -> bool:
        """True when the answer states no other end (RFC 9112 section 6.3)."""
        stated = {"content-length", "transfer-encoding"}
        return self._has_head and stated.isdisjoint(self.headers)

    def check(self, received: int, status: int) -> None:
        """Refuse, as soon as it is known, what will not be read; after so many further bytes."""
        self._seen_bytes += received
        if not self._has_head:
            if self._seen_bytes > _MOST_HEAD_BYTES:  # a head without end
                text = f"more than {_MOST_HEAD_BYTES} bytes before the body"
                raise ScrapeError(ScrapeFailure.TOO_LARGE, text)
            return
        if status in _REDIRECTS:
            text = f"status {status} to {self.headers.get('location', 'nowhere')}"
            raise ScrapeError(ScrapeFailure.REDIRECT, text)
        if status != _OK:
            raise ScrapeError(ScrapeFailure.STATUS, f"status {status}")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise ScrapeError(ScrapeFailure.CONTENT_TYPE, "an encoding that was not asked for")
        # On the wire as well: a chunk of one byte may carry kilobytes of extensions.
        if max(self._body_bytes, self._seen_bytes // _MOST_OVERHEAD) > self._limit_bytes:
            text = f"more than {self._limit_bytes} bytes"
            raise ScrapeError(ScrapeFailure.TOO_LARGE, text)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(data)
        self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        """Nothing follows."""
        self.is_complete = True
