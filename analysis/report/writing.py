"""Writes a report's files: into the archive, listed in its checksums, or anywhere else.

A run that is still being written gets no report in its folder: its archive would end up with
one of the past. `HTML_FILE` and `MARKDOWN_FILE` can be made again from the rest at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.baseline_types import Baseline
from analysis.report.facts import build_facts
from analysis.report.layout import build_report
from analysis.report.markdown import to_markdown_page
from analysis.report.page import to_html
from analysis.report.pictures import draw_pictures
from loadtests.errors import HarnessError
from loadtests.plan.host_types import HostTypes
from loadtests.record.archive import Run
from loadtests.record.checksums import add_file
from loadtests.record.directory import REPORT_FILES, is_being_written
from loadtests.record.files import replace_file, writing


def write_report(
    run: Run, baselines: Sequence[Baseline], output: Path | None, types: HostTypes | None = None
) -> tuple[Path, ...]:
    """Write both files into `output`, or into the run's own folder; their paths.

    HarnessError when they cannot be written, or the run is still being written there.
    """
    if output is None and is_being_written(run.path):
        raise HarnessError(
            where=str(run.path),
            seen="a run that is still being written",
            expected="its end, or another folder (--output) for a view of the moment",
        )
    facts = build_facts(run, baselines, types)
    report = build_report(facts, tuple(draw_pictures(facts)))
    texts = dict(zip(REPORT_FILES, (to_html(report), to_markdown_page(report)), strict=True))
    folder = run.path if output is None else output
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if output is None:
            add_file(folder, name, text.encode())
        else:
            replace_file(folder / name, text.encode())
    return tuple(folder / name for name in texts)
