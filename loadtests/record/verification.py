"""Verifies a complete archive: every byte and every sum.

First the checksums: a file that is missing, cut, or one bit off is named, `SHA256SUMS`
itself, the verdict and the report included. Then what the files say about each other: the
intervals of the latency log must add up to the totals, bucket by bucket, and the totals to
the sample counts of the table of windows; and bins must add up to their windows. A finding is
a sentence; none means sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from loadtests.errors import HarnessError
from loadtests.record.bin_rows import bin_differences
from loadtests.record.checksums import check_manifest
from loadtests.record.directory import (
    LATENCY_FILE,
    MANIFEST_FILE,
    check_run_directory,
    is_partial,
)
from loadtests.record.files import open_file, read_file, reading, sha256_of
from loadtests.record.hlog import Interval, parse_log
from loadtests.record.manifest import Manifest, decode_manifest
from loadtests.record.reader import Run, load_run
from loadtests.record.totals import Totals, keys_of
from loadtests.record.window import Kind, SlotSpace, Window, merge_windows

# Intervals merged at a time: bounds memory on a log of any length.
_BATCH_INTERVALS: Final = 2000


def verify(path: Path) -> tuple[str, ...]:
    """Return what is wrong with a complete archive, empty when it is sound.

    HarnessError when `path` is no run directory, or a partial run, which has no sums yet.
    """
    check_run_directory(path)
    if is_partial(path):
        raise HarnessError(
            where=str(path), seen="a partial run", expected="a complete run: it alone has checksums"
        )
    try:
        manifest = decode_manifest(read_file(path / MANIFEST_FILE), str(path / MANIFEST_FILE))
        findings = tuple(_wrong_checksums(path, manifest))
        if findings:
            return findings
        run = load_run(path)
        return tuple(_wrong_sums(run))
    except HarnessError as error:
        return (str(error),)


def _wrong_checksums(path: Path, manifest: Manifest) -> Iterator[str]:
    yield from _differences(path, manifest.checksums)
    try:
        listed = check_manifest(path, manifest, read_file(path / MANIFEST_FILE))
    except HarnessError as error:
        yield str(error)
        return
    yield from _differences(path, {n: listed[n] for n in listed if n not in manifest.checksums})


def _differences(path: Path, checksums: Mapping[str, str]) -> Iterator[str]:
    for name, expected in sorted(checksums.items()):
        try:
            seen = sha256_of(path / name)
        except HarnessError as error:
            yield str(error)
            continue
        if seen != expected:
            yield f"{path / name}: saw SHA-256 {seen}; expected {expected}"


def _wrong_sums(run: Run) -> Iterator[str]:
    if run.manifest.events != len(run.events):
        yield f"events: saw {len(run.events)}; expected {run.manifest.events}"
    if LATENCY_FILE not in run.manifest.checksums:
        return
    totals = _totals_of_log(run)
    judged, everything = totals.judged(), totals.everything()
    for name, logged, stored in (
        ("judged windows", judged, run.merged(judged=True)),
        ("all windows", everything, run.merged(judged=False)),
    ):
        same_keys = np.array_equal(logged.keys, stored.keys)
        if not same_keys or not np.array_equal(logged.counts, stored.counts):
            yield (
                f"totals of {name}: saw {int(stored.counts.sum())} samples; expected the sum of "
                f"the intervals, {int(logged.counts.sum())}, equal in every bucket"
            )
    columns = [f"{kind.name.lower()}_n" for kind in Kind]
    in_table = int(run.windows[columns].to_numpy().sum())
    in_log = int(everything.counts.sum())
    if in_table != in_log:
        yield f"windows.parquet: saw {in_table} samples; expected those of the log, {in_log}"
    if len(run.bins):
        yield from bin_differences(run.windows, run.bins)


def _totals_of_log(run: Run) -> Totals:
    """Add up the intervals again, by second, as the writer did."""
    totals = Totals(run.manifest)
    where = run.path / LATENCY_FILE
    waiting: list[Interval] = []
    try:
        with reading(where), open_file(where) as file:
            for interval in parse_log(file):
                waiting.append(interval)
                if len(waiting) >= _BATCH_INTERVALS:
                    _add_intervals(totals, waiting, run.slots)
        _add_intervals(totals, waiting, run.slots)
    except ValueError as error:
        raise HarnessError(
            where=str(where), seen=str(error), expected="a log of this run's intervals"
        ) from error
    return totals


def _add_intervals(totals: Totals, waiting: list[Interval], slots: SlotSpace) -> None:
    seconds: dict[int, list[Window]] = {}
    for interval in waiting:
        seconds.setdefault(interval.start_s, []).append(_window_of(interval, slots))
    waiting.clear()
    for start_s, parts in seconds.items():
        totals.add(merge_windows(start_s, parts))


def _window_of(interval: Interval, slots: SlotSpace) -> Window:
    keys, counts = keys_of(interval, slots)
    empty = Window.empty(interval.start_s)
    return Window(
        start_s=interval.start_s,
        slots=empty.slots,
        counters=empty.counters,
        keys=keys,
        counts=counts,
        errors={},
        messages={},
        health=(),
        hiccups=(),
    )
