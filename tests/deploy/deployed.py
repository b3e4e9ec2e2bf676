"""What deploy/ holds, read as its users' tools read it; what is not installed skips a test."""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.commands.dispatch import build_parser

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
OVERLAYS = ("smoke", "rest-200", "nightly")
INSTALLED = "/opt/headroom"  # where the image and install.sh put the repository
PROGRAM = f"{INSTALLED}/.venv/bin/headroom"


def tool(name: str) -> str:
    """Path of a program: of this environment, else of the host; skips the test without it."""
    found = shutil.which(name, path=str(BIN)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run_tool(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without a shell."""
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@functools.cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """Objects of an overlay, as `kubectl apply` would send them."""
    folder = DEPLOY / "kubernetes" / "overlays" / overlay
    done = run_tool(tool("kubectl"), "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    """Objects of one kind by name."""
    found = (one for one in rendered(overlay) if one["kind"] == kind)
    return {one["metadata"]["name"]: one for one in found}


def job_specs(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and specs of jobs, those of cron jobs included."""
    for name, job in of_kind(overlay, "Job").items():
        yield name, job["spec"]
    for name, cron in of_kind(overlay, "CronJob").items():
        yield name, cron["spec"]["jobTemplate"]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Containers of a job's pod, those that prepare it first."""
    pod = spec["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


def data_of(overlay: str, name: str) -> dict[str, str]:
    """A generated ConfigMap by the name before its hash."""
    maps = of_kind(overlay, "ConfigMap")
    (found,) = (one for key, one in maps.items() if re.fullmatch(rf"{name}-[a-z0-9]+", key))
    data: dict[str, str] = found["data"]
    return data


def parsed(arguments: Sequence[str]) -> argparse.Namespace | None:
    """`headroom ARGUMENTS` as the command line reads it; None where it is no command of ours."""
    try:
        return build_parser().parse_args(list(arguments))
    except SystemExit:
        return None


def parses(arguments: Sequence[str]) -> bool:
    """Whether `headroom ARGUMENTS` is a command of ours, with options that it has."""
    return parsed(arguments) is not None


def blocks_of(page: Path) -> list[str]:
    """What a page has between fences, without comments; a command is one line."""
    blocks = re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"\s+#.*", "", block.replace("\\\n", "")) for block in blocks]


def units(kind: str) -> list[Path]:
    """Unit files."""
    return sorted((DEPLOY / "systemd").glob(f"*.{kind}"))


def settings(unit: Path) -> dict[str, list[str]]:
    """Keys of a unit file, of all its sections, with every value."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found
