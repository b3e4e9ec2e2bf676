"""The undo ledger: durable before anything is applied, torn by crashes, locked, never guessed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from failover_rig import settings

from loadtests.errors import ExitCode, HarnessError, TargetError
from loadtests.failover.ledger import Ledger, strikes_in
from loadtests.failover.strike import Strike
from loadtests.plan.failover import FaultNode


def strike(fault: str = "a", node: str = "n1") -> Strike:
    """A strike of which nothing but its key matters."""
    return Strike(
        fault=fault,
        action="noop",
        node=FaultNode(
            name=node, zone="", url="", is_voter=True, pid_file="", start=("a b", '"'),
            servers=(), namespace="", interface="", proxy="", owner_pid=0,
        ),
        settings=settings(),
        admin="",
        health_path="",
        owner=None,
        before={"text": "a\nb \u2028"},
    )  # fmt: skip


def test_what_was_begun_is_left_for_the_next(tmp_path: Path) -> None:
    """The newest first, whole, until it is gone; then the file is empty."""
    with Ledger(tmp_path) as ledger:
        ledger.began(strike("a"))
        ledger.began(strike("b"))
    with Ledger(tmp_path) as ledger:
        assert ledger.left == (strike("b"), strike("a"))
        ledger.gone(strike("b"))
    with Ledger(tmp_path) as ledger:
        assert ledger.left == (strike("a"),)
        ledger.gone(strike("a"))
        assert ledger.path.read_bytes() == b""


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_was_never_acted_on(tmp_path: Path, cut: int) -> None:
    """It is dropped, and what is written after it can be read."""
    with Ledger(tmp_path) as ledger:
        ledger.began(strike("a"))
        whole = ledger.path.stat().st_size
        ledger.began(strike("b"))
        path = ledger.path
    os.truncate(path, whole + cut)
    with Ledger(tmp_path) as ledger:
        assert ledger.left == (strike("a"),)
        ledger.began(strike("c"))
    with Ledger(tmp_path) as ledger:
        assert ledger.left == (strike("c"), strike("a"))


def test_other_damage_is_no_empty_ledger(tmp_path: Path) -> None:
    """It could hide a fault in force: an error that names the line."""
    with Ledger(tmp_path) as ledger:
        ledger.began(strike("a"))
        path = ledger.path
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(HarnessError, match="line 1"):
        Ledger(tmp_path)


def test_it_is_synced_before_began_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise that everything rests on: the bytes were there when fsync was called."""
    seen: list[int] = []
    with Ledger(tmp_path) as ledger:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            seen.append(ledger.path.stat().st_size)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        ledger.began(strike("a"))
    assert seen == [ledger.path.stat().st_size]
    assert seen[0] > 0


def test_a_second_holder_is_refused_until_the_first_has_died(tmp_path: Path) -> None:
    """By the kernel's lock: a killed holder leaves none."""
    script = (
        "import sys, time; from pathlib import Path; from loadtests.failover.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TargetError, match=f"pid {holder.pid}") as refused:
            Ledger(tmp_path)
        assert refused.value.exit_code is ExitCode.ABORTED
        holder.kill()
    with Ledger(tmp_path) as ledger:
        assert ledger.left == ()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Without a ledger nothing may be applied."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="a folder that can be written"):
        Ledger(tmp_path / "file" / "below")


def test_a_look_needs_no_lock_and_changes_nothing(tmp_path: Path) -> None:
    """While it is held, and where nothing can be written; without a ledger there is nothing."""
    assert strikes_in(tmp_path / "nowhere") == ()
    with Ledger(tmp_path) as ledger:
        ledger.began(strike("a"))
        ledger.began(strike("b"))
        with ledger.path.open("ab") as torn:
            torn.write(b'{"type"')
        before = ledger.path.read_bytes()
        assert strikes_in(tmp_path) == (strike("b"), strike("a"))
        assert ledger.path.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()
