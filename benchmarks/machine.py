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
    load_average: float  # 1 minute, before the benchmark added to it


def describe_machine() -> Machine:
    """Read the facts from the kernel."""
    return Machine(
        date_utc=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor_field("model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        hypervisor="virtual machine" if "hypervisor" in _processor_field("flags") else "bare metal",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        load_average=os.getloadavg()[0],
    )


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


def wait_quiet(load_limit: float, patience_s: float) -> float:
    """Wait until the 1-minute load average is below the limit; what it was in the end."""
    deadline = time.monotonic() + patience_s
    while os.getloadavg()[0] > load_limit and time.monotonic() < deadline:
        time.sleep(5)
    return os.getloadavg()[0]
