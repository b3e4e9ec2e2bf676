"""Facts about where a run was made: host, package versions, git commit.

Reads the machine, writes nothing. A fact that cannot be read is the word "unknown",
never a guess; an archive does not fail because of it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from loadtests import compiled
from loadtests.record.manifest import HostFacts

UNKNOWN: Final = "unknown"
# What moves figures or formats when its version changes.
_PACKAGES: Final = (
    "headroom", "locust", "gevent", "pyzmq", "uvloop", "httptools", "numpy", "pandas", "pyarrow",
    "hdrhistogram", "msgspec",
)  # fmt: skip
_GIT_TIMEOUT_S: Final = 5.0
_SHARED_MODULES: Final = ("clock.py", "compiled.py", "errors.py", "parentage.py")
_ROOMS_OF_AGENTS: Final = ("engine", "plan", "record", "swarm")
LOCUSTFILE: Final = "locustfile"
_DIGITS: Final = 16


def host_facts() -> HostFacts:
    """Read the facts of this host; `cores` are those this process may run on."""
    return HostFacts(
        hostname=platform.node() or UNKNOWN,
        cores=len(os.sched_getaffinity(0)),
        kernel=f"{platform.system()} {platform.release()}",
        cpu_model=_cpu_model(Path("/proc/cpuinfo")),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        python=engine_python(),
    )


def engine_python() -> str:
    """What engines of this host run on: "CPython 3.12.1, engine compiled"."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, engine compiled" if compiled.is_used() else python


def _cpu_model(cpuinfo: Path) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return UNKNOWN
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine() or UNKNOWN


def package_versions() -> dict[str, str]:
    """Versions of the packages that measure, encode and store."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@cache
def read_code() -> tuple[tuple[str, str], ...]:
    """Digests by room, read once: what this process has imported does not change any more."""
    package = Path(__file__).resolve().parents[1]
    files: dict[str, list[Path]] = {package.name: [package / name for name in _SHARED_MODULES]}
    for room in _ROOMS_OF_AGENTS:
        files[f"{package.name}/{room}"] = sorted((package / room).rglob("*.py"))
    return tuple((room, _digest(paths)) for room, paths in files.items())


def code_digests() -> dict[str, str]:
    """SHA-256 (16 digits of it) over the names and texts of each room that an agent runs."""
    return dict(read_code())


def locustfile_digest(paths: Sequence[Path]) -> dict[str, str]:
    """The same of what a user gave Locust to run; names do not count, folders may differ."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in paths))
    return {LOCUSTFILE: digest.hexdigest()[:_DIGITS]}


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]


def git_commit(directory: Path) -> str | None:
    """Commit that a directory's work tree is at, "+dirty" with changes; None without git."""
    head = _git(directory, "rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    status = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return head if status == "" else f"{head}+dirty"


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell, no input from outside
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's own git
            capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
