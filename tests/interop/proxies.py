"""nginx and HAProxy with HTTP/2 on both sides, configured for a test and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_REQUESTS_OF_AGE: Final = 100  # a connection that "ages" ends after so many
_ENDLESS: Final = 1_000_000_000

_NGINX: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  client_max_body_size 0;
  keepalive_requests {requests};
  http2_max_concurrent_streams {streams};
  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive 512;
    keepalive_requests {endless};
  }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass grpc://backend; }}
  }}
}}
"""

_HAPROXY: Final = """
global
  maxconn 4096
  tune.h2.max-concurrent-streams {streams}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:{port} proto h2
  default_backend back
backend back
  server grpcio 127.0.0.1:{backend} proto h2
"""


def nginx_command(
    program: str, folder: Path, port: int, backend: int, *, streams: int, ages: bool
) -> list[str]:
    """Command of an nginx that passes gRPC on to a server behind it."""
    text = _NGINX.format(
        folder=folder,
        port=port,
        backend=backend,
        streams=streams or 128,
        requests=_REQUESTS_OF_AGE if ages else _ENDLESS,
        endless=_ENDLESS,
    )
    path = folder / f"nginx-{port}.conf"
    path.write_text(text)
    return [program, "-e", "stderr", "-c", str(path)]


def haproxy_command(
    program: str, folder: Path, port: int, backend: int, *, streams: int, ages: bool
) -> list[str]:
    """Command of a HAProxy that passes HTTP/2 on to a server behind it."""
    del ages
    path = folder / f"haproxy-{port}.cfg"
    path.write_text(_HAPROXY.format(port=port, backend=backend, streams=streams or 100))
    return [program, "-db", "-q", "-f", str(path)]
