"""The server that every generator is measured against: Debian's nginx on one core.

Tuned so that it is not what is measured: one process, access log off, keep-alive without
end, a constant answer from memory. Its own request counter (stub_status) is the count of
requests for every generator, so nobody's bookkeeping is taken on trust.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Child, cpu_ns, spawn
from loadtests.errors import HarnessError

HOST = "127.0.0.1"
BODY = "headroom benchmark: 32 bytes ok\n"
_START_S = 10.0
_STATUS = re.compile(r"Active connections: (\d+)\s+server accepts handled requests\s+\d+ \d+ (\d+)")
_CONFIGURATION = """\
daemon off;
master_process off;  # one process: nothing is orphaned when it is killed
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 19000; use epoll; multi_accept on; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 2147483647;
  tcp_nodelay on;
  default_type text/plain;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port} backlog=16384;
    location = /status {{ stub_status; }}
    location / {{ return 200 "{body}"; }}
  }}
}}
"""


def free_port() -> int:
    """Return a TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a server counted at `monotonic_ns`."""

    monotonic_ns: int
    requests: int  # since its start, questions for the status included


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxStatus(Status):
    """nginx also counts connections."""

    connections: int  # open now


@dataclass(frozen=True, slots=True, kw_only=True)
class Server(ABC):
    """A running server that counts what it answers."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @abstractmethod
    def status(self) -> Status:
        """Ask for its counters."""

    def cpu_ns(self) -> int:
        """User + system time of the server."""
        return cpu_ns(self.child.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx(Server):
    """A running nginx."""

    def status(self) -> NginxStatus:
        """Ask nginx for its counters; the time is the middle of the question."""
        before_ns = time.monotonic_ns()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request("GET", "/status")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        found = _STATUS.search(text)
        if found is None:
            raise HarnessError(where="nginx /status", seen=repr(text), expected="stub_status text")
        return NginxStatus(
            monotonic_ns=(before_ns + time.monotonic_ns()) // 2,
            requests=int(found[2]),
            connections=int(found[1]),
        )


@contextmanager
def running_server(*, core: int, scratch: Path) -> Iterator[Nginx]:
    """Start nginx on `core`, wait until it answers, end it on leaving."""
    port = free_port()
    folder = scratch / f"nginx-{port}"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    body = BODY.replace("\n", "\\n")
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=HOST, port=port, body=body))
    command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
    with spawn("nginx", command, core=core, scratch=scratch) as child:
        server = Nginx(child=child, port=port)
        wait_answering(server)
        yield server


def wait_answering(server: Server) -> None:
    """Wait until a server has counters to tell; HarnessError when it does not."""
    deadline = time.monotonic() + _START_S
    while True:
        server.child.require_alive()
        try:
            server.status()
        except OSError:
            if time.monotonic() > deadline:
                raise HarnessError(
                    where=server.child.name,
                    seen=f"no answer in {_START_S:g} s: {server.child.complaint()}",
                    expected="an answer",
                ) from None
            time.sleep(0.05)
        else:
            return
