"""install.sh, as-headroom and the README's commands, on a host of their own (own_host.sh)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import DEPLOY, INSTALLED, ROOT, blocks_of, run_tool, settings, tool

PARTS = ("pyproject.toml", "README.md", "build-requirements.in")
FOLDERS = ("loadtests", "analysis", "protos", "scenarios", "deploy")
RELEASES = Path("opt") / "headroom-releases"


class Host:
    """A host that commands are run on, one after the other, and a checkout to install from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "host"
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        for part in PARTS:
            shutil.copy(ROOT / part, self.checkout)
        for part in FOLDERS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, self.checkout / part, ignore=ignored)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, in the checkout."""
        given = (f"{name}={value}" for name, value in environment.items())
        script = Path(__file__).with_name("own_host.sh")
        host = (str(script), str(self.folder), sys.executable)
        inside = (tool("unshare"), "--mount", *host, "env", *given, *words)
        return run_tool(*inside, cwd=self.checkout)

    def install(self, role: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run install.sh there."""
        return self.run("deploy/host/install.sh", role, **environment)

    @property
    def release(self) -> Path:
        """What /opt/headroom points to."""
        return self.folder / (self.folder / INSTALLED[1:]).readlink().relative_to("/")

    @property
    def releases(self) -> list[str]:
        """Names of all that are kept."""
        return sorted(path.name for path in (self.folder / RELEASES).iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A fresh one."""
    if os.geteuid() != 0 or run_tool(tool("unshare"), "--mount", "true").returncode != 0:
        pytest.skip("a host of one's own takes root's rights")
    tmp_path.chmod(0o755)
    return Host(tmp_path)


def test_an_update_has_nothing_of_the_release_before(host: Host) -> None:
    """A module that is gone is gone; what runs keeps the files of the release before, no older."""
    removed = host.checkout / "loadtests" / "engine" / "removed.py"
    removed.write_text("")
    done = host.install("agent")
    assert done.returncode == 0, done.stderr
    first = host.release
    assert (first / "loadtests" / "engine" / "removed.py").exists()
    removed.unlink()
    for _ in range(2):
        before = host.release
        assert host.install("agent").returncode == 0
        assert host.releases == [before.name, host.release.name]
    assert not (host.release / "loadtests" / "engine" / "removed.py").exists()
    assert not first.exists()


def test_an_update_that_fails_changes_nothing(host: Host) -> None:
    """No package index: the release in use stays, and nothing half-made is left."""
    assert host.install("agent").returncode == 0
    before = host.release
    assert host.install("agent", NO_INDEX="1").returncode != 0
    assert (host.release, host.releases) == (before, [before.name])


def test_a_folder_from_before_there_were_releases_is_put_aside(host: Host) -> None:
    """The link takes its place."""
    (host.folder / INSTALLED[1:] / "loadtests").mkdir(parents=True)
    assert host.run("true").returncode == 0
    done = host.install("master")
    assert done.returncode == 0, done.stderr
    assert (host.release / "loadtests" / "cli.py").exists()


def test_headroom_is_on_the_path(host: Host) -> None:
    """By its name alone, as pages write it."""
    assert host.install("master").returncode == 0
    done = host.run("sh", "-c", "command -v headroom; headroom --version")
    assert done.stdout.splitlines()[0] == "/usr/local/bin/headroom"
    assert done.stdout.splitlines()[1].startswith("headroom "), done.stderr


def test_as_headroom_runs_what_units_run(host: Host) -> None:
    """User, folder and variables of every unit, and those of /etc/headroom/environment."""
    assert host.install("master").returncode == 0
    told = "json://192.0.2.1/?a=b c#="
    environment = host.folder / "etc" / "headroom" / "environment"
    environment.write_text(f"# NAME=VALUE\n\nHEADROOM_NOTIFY={told}\nHEADROOM_KEY=agent-1")
    done = host.run("as-headroom", "sh", "-c", "id -un; id -gn; pwd; umask; env")
    assert done.returncode == 0, done.stderr
    user, group, folder, mask, *variables = done.stdout.splitlines()
    assert {f"HEADROOM_NOTIFY={told}", "HEADROOM_KEY=agent-1"} <= set(variables)
    for unit in (DEPLOY / "systemd").glob("*.service"):
        own = settings(unit)
        assert ([user], [group], [folder]) == (
            own["User"],
            own["Group"],
            own["WorkingDirectory"],
        )
        assert [mask] == own["UMask"]
        assert set(own["Environment"]) <= set(variables)
    assert host.run("as-headroom").returncode == 2


def test_the_readmes_night_is_one(host: Host) -> None:
    """Its commands, as they stand there, in a checkout; then the units' own, on what they left."""
    (block,) = (one for one in blocks_of(DEPLOY / "README.md") if "install.sh nightly" in one)
    # The suite's Python may be in a folder of root's, which that user could not enter.
    assert host.run("true").returncode == 0
    stand_in = host.folder / "stand-ins" / "setpriv"
    stand_in.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    stand_in.chmod(0o755)
    done = host.run("bash", "-euxc", block)
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now headroom-nightly.timer" in done.stderr
    (night,) = settings(DEPLOY / "systemd" / "headroom-nightly.service")["ExecStart"]
    again = host.run("as-headroom", *night.split(), "--dry-run")
    assert again.returncode == 0, again.stderr
    for told in (done.stdout, again.stdout):
        assert "rest-100" in told
        # The shipped plan fits its budget and windows on every day of the week.
        assert "warning" not in told
    (check,) = settings(DEPLOY / "systemd" / "headroom-nightly-check.service")["ExecStart"]
    looked = host.run("as-headroom", *check.split())
    assert (looked.returncode, "no night has ended" in looked.stderr) == (1, True)
