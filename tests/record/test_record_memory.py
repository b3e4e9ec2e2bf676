"""What a burst took is given back, although blocks that live on stand between."""

from __future__ import annotations

import subprocess
import sys

BURST_BYTES = 80_000_000

# A process of its own: in one that has done much, new blocks lie in old holes.
_SCRIPT = """
import os
from pathlib import Path
from loadtests.record.memory import give_back_memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

burst, living = [], []
for _ in range(800):  # each below what the C library maps by itself, and gives back
    burst.append(b"x" * 100_000)
    living.append(b"y" * 1_000)
high = resident_bytes()
burst.clear()
kept = resident_bytes()
give_back_memory()
print(high - kept, high - resident_bytes(), len(living))
"""


def test_freed_blocks_between_living_ones_go_back_to_the_kernel() -> None:
    """Without the call most of a burst is kept, after it next to nothing."""
    command = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    fell_by_itself, fell, living = map(int, done.stdout.split())
    assert living == 800
    assert fell_by_itself < BURST_BYTES // 2
    assert fell > BURST_BYTES * 3 // 4
