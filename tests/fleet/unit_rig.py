"""Starts what units of deploy/systemd say, on hosts of the fleet, as systemd would.

Commands, variables and environment file are the units' own. Another's are only folders, the
program's path and, of the environment file, its values: master and key of this fleet.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from deployed import DEPLOY, PROGRAM, settings
from hosts_rig import ADDRESSES, AGENTS, MASTER, PORT, Hosts
from system_rig import Load, Started

UNITS = DEPLOY / "systemd"
PLAN = """
version = 1
name = "units"
at = "{at}"
retries = 0
[budget]
time = "10 min"
cost = 1.0
cost_per_hour = 0.68
[[steps]]
name = "truth"
scenario = "{scenario}"
arguments = ["--bind", "0.0.0.0:{port}", "--expect-workers", "{agents}", "--force"]
"""


def _of_host(text: str, made: Hosts, host: str) -> str:
    """A unit's value with the folders of this fleet."""
    for theirs, ours in (
        ("/etc/headroom", made.folder),
        ("/var/lib/headroom/keys", made.folder / "keys" / host),
        ("/var/lib/headroom/results", made.started.results),
        ("/var/lib/headroom", made.folder / "state-of" / host),
    ):
        text = text.replace(theirs, str(ours))
    return text


def _environment(name: str, made: Hosts, host: str) -> dict[str, str]:
    """Variables that a unit sets, and those of its environment file, where it has a sample."""
    lines = [_of_host(line, made, host) for line in settings(UNITS / name)["Environment"]]
    sample = UNITS / name.replace(".service", ".environment")
    own = {"HEADROOM_MASTER": f"{ADDRESSES[MASTER]}:{PORT}", "HEADROOM_KEY": host}
    given = settings(sample) if sample.exists() else {}
    return {**dict(line.split("=", 1) for line in lines), **{key: own[key] for key in given}}


def start_unit(name: str, made: Hosts, host: str) -> Started:
    """ExecStart of a service on a host."""
    environment = _environment(name, made, host)
    (line,) = settings(UNITS / name)["ExecStart"]
    line = re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], line)
    program, *words = shlex.split(_of_host(line, made, host))
    assert program == PROGRAM
    return made.started.start(*words, before=made.on(host), environment=environment)


def start_units(made: Hosts, load: Load, at: str) -> tuple[Started, list[Started]]:
    """The night of a plan at a time (UTC) whose one run waits for the agents of this fleet."""
    scenario: Path = load.write(made.folder, made.counted.url)
    plan = PLAN.format(at=at, scenario=scenario.name, port=PORT, agents=len(AGENTS))
    (made.folder / "nightly.toml").write_text(plan, encoding="utf-8")
    night = start_unit("headroom-nightly.service", made, MASTER)
    return night, [start_unit("headroom-worker.service", made, agent) for agent in AGENTS]
