"""Results that cannot be kept: said clearly, load stopped, what there is stays readable."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from counting_target import ABANDONED
from system_rig import Load, fleet, only_run, runs, small_disk, target

from loadtests.record.archive import verify

pytestmark = [pytest.mark.system, pytest.mark.faults]

LOAD = Load(seconds=60, rate=200)
KIB = 1024
# Full within half of the load: quiet seconds, whose histograms are short, take 1.2 KiB of it each.
ROOM_BYTES = 40 * KIB


def test_a_full_disk_stops_the_load_and_keeps_what_there_is(tmp_path: Path) -> None:
    """Exit 5 and a sentence; the partial archive is readable, incomplete, never a PASS."""
    with (
        target(tmp_path / "target") as counted,
        fleet(tmp_path) as started,
        small_disk(started.results, ROOM_BYTES) as limit,
    ):
        run = started.run(LOAD.write(tmp_path, counted.url), "--engines", "1", before=limit)
        assert run.wait() == 5, run.text()
        assert "Traceback" not in run.text()
        assert "space" in run.text() or "too large" in run.text(), run.text()
        assert started.survivors() == []
        before = len(counted.rows())
        time.sleep(0.3)  # real time: load that goes on would be seen
        requests = counted.end()
        assert len(requests) == before
        archive = only_run(started.results, complete=False)
        ok = int(archive.windows["ok"].sum())
        assert 0 < ok <= int((requests["replied_ns"] != ABANDONED).sum())
        show = ("show", archive.manifest.run_id, "--results", str(started.results))
        shown = started.start(*show, "--json")
        assert shown.wait() == 5, shown.text()
        document = json.loads(shown.text())
        assert document["state"] == "INCONCLUSIVE"
        assert document["is_complete"] is False
        page = started.start(*show)
        assert page.wait() == 5
        assert "partial" in page.text()


def test_no_room_at_all_starts_nothing(tmp_path: Path) -> None:
    """A disk that is full from the start: exit 5 and a sentence before any request."""
    with (
        target(tmp_path / "target") as counted,
        fleet(tmp_path) as started,
        small_disk(started.results, 4 * KIB) as limit,
    ):
        run = started.run(LOAD.write(tmp_path, counted.url), "--engines", "1", before=limit)
        assert run.wait() == 5, run.text()
        assert "Traceback" not in run.text()
        assert str(started.results) in run.text().replace("\n", "")
        assert started.survivors() == []
        assert counted.end().empty


def test_room_for_the_journal_alone_fails_at_the_end(tmp_path: Path) -> None:
    """A disk that fills while the archive is closed: exit 5, and the run is still readable."""
    load = Load(seconds=3, rate=50)
    codes = set()
    for room_bytes in (32 * KIB, 48 * KIB, 64 * KIB):
        folder = tmp_path / str(room_bytes)
        with (
            target(folder / "target") as counted,
            fleet(folder) as started,
            small_disk(started.results, room_bytes) as limit,
        ):
            run = started.run(load.write(folder, counted.url), "--engines", "1", before=limit)
            codes.add(run.wait())
            assert "Traceback" not in run.text()
            answered = int((counted.end()["replied_ns"] != ABANDONED).sum())
            for archive in (*runs(started.results, complete=True),):
                assert verify(archive.path) == ()
                assert int(archive.windows["ok"].sum()) == answered
            for archive in runs(started.results, complete=False):
                assert int(archive.windows["ok"].sum()) <= answered
    assert 5 in codes
    assert codes <= {0, 3, 5}


@pytest.mark.parametrize("where", ["a-file/results", "/proc/headroom"])
def test_an_unwritable_folder_starts_nothing(tmp_path: Path, where: str) -> None:
    """Exit 5, the path and no traceback; nothing was sent and nothing is left running."""
    (tmp_path / "a-file").write_text("in the way")
    with target(tmp_path / "target") as counted, fleet(tmp_path) as started:
        scenario = LOAD.write(tmp_path, counted.url)
        run = started.start("run", str(scenario), "--results", where, "--force")
        assert run.wait() == 5, run.text()
        assert "Traceback" not in run.text()
        assert where.split("/", maxsplit=1)[0] in run.text()
        assert started.survivors() == []
        assert counted.end().empty


def test_two_runs_share_a_results_folder(tmp_path: Path) -> None:
    """At the same time: both archives are complete, and each equals its own target's count."""
    load = Load(seconds=3, rate=100)
    folders = (tmp_path / "a", tmp_path / "b")
    with (
        target(folders[0]) as one,
        target(folders[1]) as other,
        fleet(tmp_path) as started,
    ):
        commands = [
            started.run(load.write(folder, counted.url), "--engines", "1")
            for folder, counted in zip(folders, (one, other), strict=True)
        ]
        for command in commands:
            assert command.wait() in {0, 3}, command.text()
        seen = {one.url: one.end(), other.url: other.end()}
    archives = runs(started.results, complete=True)
    assert len({archive.manifest.run_id for archive in archives}) == 2
    for archive in archives:
        (url,) = (url for url in seen if url in archive.manifest.scenario_text)
        assert verify(archive.path) == ()
        assert int(archive.windows["planned"].sum()) == load.arrivals
        assert int(archive.windows["ok"].sum()) == len(seen[url]) == load.arrivals
