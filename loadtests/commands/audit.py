"""The audit of writes after a run: reads back what its engines have logged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from loadtests.audit.read_back import read_back
from loadtests.commands.terminal import Terminal
from loadtests.plan.host import own_authorised_hosts
from loadtests.plan.model import Plan
from loadtests.record.archive import load_run
from loadtests.record.directory import is_partial
from loadtests.record.read_back import write_read_back

_LINE_EVERY_S: Final = 2.0


def audit_writes(path: Path, plan: Plan, terminal: Terminal) -> None:
    """Read every logged write of a complete run back into its archive; nothing without an audit."""
    if plan.audit is None or is_partial(path):
        return
    told_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= _LINE_EVERY_S:
            told_s = time.monotonic()
            terminal.say(f"reading writes back: {done:,} of {total:,}")

    write_read_back(path, read_back(load_run(path), plan, own_authorised_hosts(), tell))
