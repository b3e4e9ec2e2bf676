"""Starts what compose.yaml says, in its order, in a network namespace of its own.

`unshare --net python compose_driver.py FOLDER`: commands, health check, replicas and stop signal
are those of the file; of the container only the paths are another's. Prints the exit codes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
PATIENCE_S = 120.0


def own_path(word: str, folder: Path) -> str:
    """A path of the container as one of this host."""
    word = word.replace("/opt/headroom/.venv/bin/python", sys.executable)
    return word.replace("/opt/headroom", str(ROOT)).replace("/data", str(folder))


def start(service: str, folder: Path) -> subprocess.Popen[bytes]:
    """One container of a service."""
    words = [own_path(str(word), folder) for word in COMPOSE["services"][service]["command"]]
    command = [sys.executable, "-c", "from loadtests.cli import console; console()", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)


def wait_healthy(folder: Path) -> None:
    """As often as the file says."""
    check = COMPOSE["services"]["target"]["healthcheck"]
    command = [own_path(word, folder) for word in check["test"][1:]]
    for _ in range(check["retries"]):
        if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(1)
    sys.exit("the target did not become healthy")


def main(folder: Path) -> None:
    """Target, master, agents; then the end of the target by its stop signal."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    services = COMPOSE["services"]
    running = [start("target", folder)]
    try:
        wait_healthy(folder)
        running.append(start("master", folder))
        running += [start("agent", folder) for _ in range(services["agent"]["deploy"]["replicas"])]
        _, master, *agents = running
        codes: dict[str, Any] = {"master": master.wait(PATIENCE_S)}
        codes["agents"] = [agent.wait(PATIENCE_S) for agent in agents]
        running[0].send_signal(signal.Signals[services["target"]["stop_signal"]])
        codes["target"] = running[0].wait(PATIENCE_S)
    finally:
        for process in running:
            process.kill()
            process.wait()
    print(json.dumps(codes))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
