"""`results/index.html`, made anew by the commands that change what it lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.baseline_types import Baseline
from loadtests.commands.terminal import Terminal
from loadtests.commands.trend import change_notes
from loadtests.record.catalogue import list_runs


def renew_index(results: Path, baselines: Sequence[Baseline], terminal: Terminal) -> Path:
    """Write the page over all runs, baselines and trends; HarnessError when it cannot be."""
    from analysis.report.index import write_index  # noqa: PLC0415 - Jinja2, for this page alone

    summaries = list_runs(results)
    return write_index(summaries, baselines, change_notes(summaries, baselines, terminal), results)
