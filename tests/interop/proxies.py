"""nginx and HAProxy with HTTP/2 on both sides, and nginx with files, each for one test."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NGINX_HEAD: Final = """
daemon off;
worker_processes 1;
user root;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  client_max_body_size 0;
"""

_NGINX: Final = f"""{_NGINX_HEAD}
  access_log off;
  {{age}}
  http2_max_concurrent_streams {{streams}};
  upstream backend {{{{
    server 127.0.0.1:{{backend}};
    keepalive 512;
    keepalive_requests 1000000000;
  }}}}
  server {{{{
    listen 127.0.0.1:{{port}} {{secured}};
    location / {{{{ grpc_pass grpc://backend; }}}}
  }}}}
}}}}
"""

# Files over HTTP/2, a line in the log for each request.
STATIC_NGINX: Final = f"""{_NGINX_HEAD}
  log_format short $status;
  access_log {{log}} short;
  keepalive_requests 1000000000;
  server {{{{
    listen 127.0.0.1:{{port}} http2;
    root {{pages}};
  }}}}
}}}}
"""

_HAPROXY: Final = """
global
  maxconn 4096
  tune.h2.max-concurrent-streams {streams}
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:{port} {secured}
  default_backend back
  {age}
backend back
  server grpcio 127.0.0.1:{backend} proto h2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One program, and how it speaks of a server behind it that is not there."""

    status: int
    reload: signal.Signals  # new processes take over, old ones end their connections by GOAWAY
    arguments: Callable[[Path], list[str]]  # for a configuration file
    template: str
    streams: int  # its default
    plain: str  # how it listens for h2c, and for h2 with certificate and key in one file
    tls: str
    age: tuple[str, str]  # what is put into the template: for ever, and for connections that age


PROXIES: Final = {
    "nginx": Proxy(
        status=502,
        reload=signal.SIGHUP,
        arguments=lambda path: ["-e", "stderr", "-c", str(path)],
        template=_NGINX,
        streams=128,
        plain="http2",
        tls="ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem}",
        age=("keepalive_requests 1000000000;", "keepalive_requests 100;"),
    ),
    "haproxy": Proxy(
        status=503,
        reload=signal.SIGUSR2,
        arguments=lambda path: ["-W", "-q", "-f", str(path)],
        template=_HAPROXY,
        streams=100,
        plain="proto h2",
        tls="ssl crt {pem} alpn h2",
        age=("", ""),  # this version cannot tell how old a connection may become
    ),
}


def configured(
    kind: str, folder: Path, port: int, backend: int, *, streams: int, ages: bool, pem: str
) -> list[str]:
    """Write the configuration of a proxy to a server behind it; its arguments."""
    proxy = PROXIES[kind]
    path = folder / f"{kind}-{port}.conf"
    text = proxy.template.format(
        folder=folder,
        port=port,
        backend=backend,
        streams=streams or proxy.streams,
        secured=proxy.tls.format(pem=pem) if pem else proxy.plain,
        age=proxy.age[ages],
    )
    path.write_text(text)
    return proxy.arguments(path)
