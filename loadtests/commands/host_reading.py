"""Measures the host before a night: fixed work on one core, loopback round trips, disk syncs.

A second of work in all. Both ends of the loopback connection are in this thread, so that the
kernel's path is measured and not the scheduler's mood.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.errors import HarnessError
from loadtests.nightly.canary import HostReading
from loadtests.record.facts import host_facts

_WORK: Final = 200_000  # steps of an integer recurrence: some 10 ms of interpreter
_TRIES: Final = 25
_ROUND_TRIPS: Final = 2000
_SYNCS: Final = 30
_BLOCK: Final = b"\0" * 4096


def measure_host(folder: Path) -> HostReading:
    """Measure; syncs go to a file in `folder`, which is made. HarnessError when it cannot be."""
    facts = host_facts()
    return HostReading(
        cpu_ns=min(_work_ns() for _ in range(_TRIES)),
        loopback_ns=_loopback_ns(),
        disk_sync_ns=_disk_sync_ns(folder),
        cpu_model=facts.cpu_model,
        cores=facts.cores,
    )


def _work_ns() -> int:
    started_ns, value = time.perf_counter_ns(), 1
    for _ in range(_WORK):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return time.perf_counter_ns() - started_ns


def _loopback_ns() -> int:
    times = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as one, server.accept()[0] as other:
            for end in (one, other):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_ROUND_TRIPS):
                started_ns = time.perf_counter_ns()
                one.send(b"ping")
                other.recv(16)
                other.send(b"pong")
                one.recv(16)
                times.append(time.perf_counter_ns() - started_ns)
    return round(median(times))


def _disk_sync_ns(folder: Path) -> int:
    times = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(_SYNCS):
                started_ns = time.perf_counter_ns()
                file.write(_BLOCK)
                file.flush()
                os.fsync(file.fileno())
                times.append(time.perf_counter_ns() - started_ns)
    except OSError as error:
        expected = "a results folder that is writable and has space"
        raise HarnessError(where=str(folder), seen=str(error), expected=expected) from error
    return round(median(times))
