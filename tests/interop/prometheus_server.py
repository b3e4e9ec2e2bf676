"""A real Prometheus server that scrapes given addresses, for as long as a test needs it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIGURATION = """
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: nodes
    metrics_path: {path}
    static_configs: [{{ targets: [{targets}] }}]
"""


@contextmanager
def prometheus(folder: Path, *targets: str, path: str = "/q/metrics") -> Iterator[int]:
    """A server that scrapes these every second; gives its port."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed")
    configuration = folder / "prometheus.yml"
    quoted = ", ".join(f'"{target}"' for target in targets)
    configuration.write_text(CONFIGURATION.format(targets=quoted, path=path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    words.append(f"--web.listen-address=127.0.0.1:{port}")
    server = subprocess.Popen(
        [binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        server.kill()
        server.wait()
