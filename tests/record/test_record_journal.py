"""The journal: whole frames or nothing, and it says how much was cut."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_builders import T0_S, good_manifest, window_of

from loadtests.errors import HarnessError
from loadtests.record.files import AppendFile, replace_file
from loadtests.record.journal import Batch, Journal, JournalReader
from loadtests.record.window import pack_window

SLOTS = good_manifest().slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All of a journal."""

    batches: list[Batch]
    opaque: tuple[bytes, ...]
    cut_bytes: int


def content_of(path: Path) -> Content:
    """Read a journal to its end."""
    reader = JournalReader(path, SLOTS)
    frames = list(reader)
    return Content(
        batches=[frame for frame in frames if isinstance(frame, Batch)],
        opaque=tuple(frame for frame in frames if isinstance(frame, bytes)),
        cut_bytes=reader.cut_bytes,
    )


def written(path: Path) -> tuple[bytes, list[int]]:
    """A journal of three frames; its bytes and the offsets where frames end."""
    rng = np.random.default_rng(5)
    journal = Journal(path)
    ends = []
    journal.append_windows([("a1", [pack_window(window_of(T0_S, SLOTS, rng, samples=4))], b"")])
    ends.append(journal.file.size_bytes)
    journal.append_opaque(b"a snapshot of somebody else")
    ends.append(journal.file.size_bytes)
    later = [window_of(T0_S + 4 - samples, SLOTS, rng, samples=samples) for samples in (3, 2)]
    journal.append_windows([("a2", [pack_window(window) for window in later], b"note")])
    ends.append(journal.file.size_bytes)
    journal.file.close()
    return path.read_bytes(), ends


def test_frames_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Sources, windows and opaque bytes are read back exactly and in order."""
    written(tmp_path / "j")
    content = content_of(tmp_path / "j")
    rng = np.random.default_rng(5)
    first = window_of(T0_S, SLOTS, rng, samples=4)
    assert [batch.source for batch in content.batches] == ["a1", "a2"]
    assert [w.start_s for batch in content.batches for w in batch.windows] == [
        T0_S, T0_S + 1, T0_S + 2,
    ]  # fmt: skip
    assert pack_window(content.batches[0].windows[0]) == pack_window(first)
    assert content.opaque == (b"a snapshot of somebody else",)
    assert content.cut_bytes == 0


def test_an_append_is_in_the_file_when_it_returns(tmp_path: Path) -> None:
    """Another reader sees a frame at once: nothing waits in a buffer of this process."""
    journal = Journal(tmp_path / "j")
    journal.append_opaque(b"one")
    assert content_of(tmp_path / "j").opaque == (b"one",)
    journal.file.close()


def test_a_torn_tail_costs_only_the_last_frame(tmp_path: Path) -> None:
    """Cut at any byte, all whole frames are read and the rest is counted."""
    data, ends = written(tmp_path / "j")
    for cut in range(0, len(data), 7):
        (tmp_path / "cut").write_bytes(data[:cut])
        content = content_of(tmp_path / "cut")
        whole = sum(1 for end in ends if end <= cut)
        assert len(content.batches) + len(content.opaque) == whole
        assert content.cut_bytes == cut - max([0, *(end for end in ends if end <= cut)])


@settings(max_examples=200)
@given(data=st.data())
def test_damage_is_never_read_as_data(tmp_path_factory: pytest.TempPathFactory,
                                      data: st.DataObject) -> None:  # fmt: skip
    """A flipped bit anywhere loses its frame and what follows, and is counted."""
    folder = tmp_path_factory.mktemp("journal")
    raw, ends = written(folder / "j")
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    damaged = bytearray(raw)
    damaged[place // 8] ^= 1 << place % 8
    (folder / "damaged").write_bytes(damaged)
    content = content_of(folder / "damaged")
    before = [end for end in ends if end <= place // 8]
    assert len(content.batches) + len(content.opaque) == len(before)
    assert content.cut_bytes == len(raw) - max([0, *before])


def test_a_full_disk_leaves_whole_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that came short, the file ends with the last whole frame and can go on."""
    journal = Journal(tmp_path / "j")
    journal.append_opaque(b"whole")
    real_write = os.write
    calls = []

    def short_write(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real_write(descriptor, bytes(data)[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", short_write)
    with pytest.raises(HarnessError, match="ENOSPC") as caught:
        journal.append_opaque(b"torn")
    assert str(tmp_path / "j") in str(caught.value)
    assert len(calls) == 2
    monkeypatch.undo()
    journal.append_opaque(b"after")
    journal.file.close()
    content = content_of(tmp_path / "j")
    assert (content.opaque, content.cut_bytes) == ((b"whole", b"after"), 0)


def test_a_failed_replacement_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft that cannot be written whole does not touch the one that is there."""
    replace_file(tmp_path / "run.json", b"old")

    def no_write(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", no_write)
    with pytest.raises(HarnessError, match="EIO"):
        replace_file(tmp_path / "run.json", b"new")
    monkeypatch.undo()
    assert (tmp_path / "run.json").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_an_existing_file_or_a_link_is_not_written_over(tmp_path: Path) -> None:
    """A file of an archive is new: what is there already, or a link, is refused."""
    (tmp_path / "there").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for name in ("there", "link"):
        with pytest.raises(HarnessError, match="EEXIST"):
            AppendFile(tmp_path / name)
    assert (tmp_path / "there").read_bytes() == b"precious"
