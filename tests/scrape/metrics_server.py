"""A server of metrics that answers each path with the bytes that a test gave it.

Real sockets in a thread; a page is bytes as they go over the wire, in pieces with pauses
between them, so that a test can be as hostile as it likes.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

TEXT = "text/plain; version=0.0.4; charset=utf-8"
Pieces = Sequence[bytes | float]  # bytes to send, seconds to wait


def answer(
    body: bytes, *, status: str = "200 OK", content_type: str | None = TEXT, more: str = ""
) -> Pieces:
    """An ordinary HTTP answer."""
    kind = f"Content-Type: {content_type}\r\n" if content_type is not None else ""
    head = f"HTTP/1.1 {status}\r\n{kind}{more}Content-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


@dataclass(slots=True)
class MetricsServer:
    """Where it listens, what it answers, and the requests that it has read."""

    port: int
    pages: dict[str, Pieces]
    requests: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def metrics_server(pages: Mapping[str, Pieces]) -> Iterator[MetricsServer]:
    """A server that is gone afterwards; a path that it does not know is answered with 404."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                line = self.rfile.readline().decode()
                head = [line]
                while (text := self.rfile.readline()) not in {b"\r\n", b""}:
                    head.append(text.decode())
                made.requests.append("".join(head))
                path, _, query = line.split(" ")[1].partition("?")
                # Of a query, the page of its own text, else that of the path.
                page = made.pages.get(parse_qs(query).get("query", [path])[0])
                page = page or made.pages.get(path, answer(b"", status="404 Not Found"))
                for piece in page:
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                        self.wfile.flush()
                    elif stopping.wait(piece):
                        return

    stopping = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = MetricsServer(port=server.server_address[1], pages=dict(pages))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


def wait_for_requests(server: MetricsServer, number: int, seconds: float = 30.0) -> None:
    """Until it has read so many."""
    deadline = time.monotonic() + seconds
    while len(server.requests) < number:
        assert time.monotonic() < deadline, f"{len(server.requests)} of {number} requests"
        time.sleep(0.02)
