"""What the figures were measured on: the facts that a reader needs to judge them."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SERVER_CORE = 0
GENERATOR_CORE = 1
_LOOP_TURNS = 500_000  # about 0.1 s
_IDLE, _IO_WAIT = 3, 4  # columns of proc_stat(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts of this host at the start of the benchmark."""

    date_utc: str
    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    hypervisor: str
    python: str
    descriptors: int
    busy_ratio: float  # part of all cores that others used just before


def describe_machine(busy: float) -> Machine:
    """Read the facts from the kernel; `busy` is what `wait_quiet` saw."""
    return Machine(
        date_utc=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor_field("model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        hypervisor="virtual machine" if "hypervisor" in _processor_field("flags") else "bare metal",
        python=_python(),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        busy_ratio=busy,
    )


def _python() -> str:
    """The interpreter and how it was built: both matter to CPU per request, by a fifth."""
    is_shared = "libpython" in Path("/proc/self/maps").read_text()
    library = "a shared library" if is_shared else "one program"
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name}, {platform.python_compiler()}, {library}"


def _processor_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return platform.machine()


def stolen_ns() -> int:
    """Time that the hypervisor took from all cores since boot (proc_stat(5), 8th figure)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def raise_descriptor_limit() -> int:
    """Raise the soft limit to the hard one, for the children too; the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def busy_ratio(seconds: float) -> float:
    """Part of all cores (0-1) that others use, watched for so long while we sleep."""
    before = _jiffies()
    time.sleep(seconds)
    after = _jiffies()
    total = sum(after) - sum(before)
    idle = after[_IDLE] + after[_IO_WAIT] - before[_IDLE] - before[_IO_WAIT]
    return 1 - idle / total if total else 0.0


def _jiffies() -> list[int]:
    # The first eight figures exclude each other; guest time is already in user time.
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return [int(field) for field in fields[1:9]]


def bare_loop_us(core: int) -> float:
    """CPU time of a fixed loop of Python on this core: how fast the core is just now."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        begin_ns = time.thread_time_ns()
        table: dict[int, int] = {}
        for number in range(_LOOP_TURNS):
            table[number % 777] = table.get(number % 777, 0) + number
        return (time.thread_time_ns() - begin_ns) / 1000
    finally:
        os.sched_setaffinity(0, before)


def wait_quiet(limit_ratio: float, patience_s: float) -> float:
    """Wait until others use less than the limit; what they used in the end."""
    deadline = time.monotonic() + patience_s
    while (busy := busy_ratio(1.0)) > limit_ratio and time.monotonic() < deadline:
        pass
    return busy
