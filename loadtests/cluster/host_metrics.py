"""CPU, memory and disk of a node, with Micrometer's names and truthful values.

CPU ratios are of all cores of the host, as a JVM's are: one Python process can hardly use
more than one of them. Memory is what is resident of this process, under the name that a
JVM's has, so that the same objectives apply; the labels say that it is no heap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, process_time
from typing import Final

import psutil
from prometheus_client.core import GaugeMetricFamily, Metric

_SHORTEST_S: Final = 0.5  # a ratio over less is noise: scrapes of others may come in between


class CpuReadings:
    """CPU of this process and of the host since the last reading, as ratios of the host (0-1)."""

    def __init__(self) -> None:
        self._cores = os.cpu_count() or 1
        self._read_s, self._process_s, self._host_s = self._now()
        self._ratios = (0.0, 0.0)

    def read(self) -> tuple[float, float]:
        """Ratios of process and host; the ones before where no time has passed since."""
        read_s, process_s, host_s = self._now()
        capacity_s = (read_s - self._read_s) * self._cores
        if capacity_s >= _SHORTEST_S * self._cores:
            parts = ((process_s - self._process_s), (host_s - self._host_s))
            self._ratios = (min(1.0, parts[0] / capacity_s), min(1.0, parts[1] / capacity_s))
            self._read_s, self._process_s, self._host_s = read_s, process_s, host_s
        return self._ratios

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        # Guests are in `user` already; what was waited or stolen was no work of this host.
        busy_s = times.user + times.nice + times.system + times.irq + times.softirq
        return monotonic(), process_time(), busy_s


class HostMetrics:
    """Families of a scrape; `folder` is where the ledger lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = psutil.Process()
        self._cpu = CpuReadings()

    def collect(self) -> Iterator[Metric]:
        """`prometheus_client`'s collector protocol."""
        process_ratio, host_ratio = self._cpu.read()
        yield GaugeMetricFamily("system_cpu_count", "Cores", value=os.cpu_count() or 1)
        yield GaugeMetricFamily("system_cpu_usage", "Recent CPU of the host", value=host_ratio)
        yield GaugeMetricFamily(
            "process_cpu_usage", "Recent CPU of this process, of the host", value=process_ratio
        )
        yield from self._memory()
        yield from self._disk()

    def _memory(self) -> Iterator[Metric]:
        labels, values = ("area", "id"), ("nonheap", "resident (no JVM)")
        used = GaugeMetricFamily("jvm_memory_used_bytes", "Resident memory", labels=labels)
        used.add_metric(values, self._process.memory_info().rss)
        limit = GaugeMetricFamily("jvm_memory_max_bytes", "Memory of the host", labels=labels)
        limit.add_metric(values, psutil.virtual_memory().total)
        yield used
        yield limit

    def _disk(self) -> Iterator[Metric]:
        usage = psutil.disk_usage(str(self._folder))
        for name, text, value in (
            ("disk_free_bytes", "Usable space for path", usage.free),
            ("disk_total_bytes", "Total space for path", usage.total),
        ):
            family = GaugeMetricFamily(name, text, labels=("path",))
            family.add_metric((str(self._folder),), value)
            yield family
