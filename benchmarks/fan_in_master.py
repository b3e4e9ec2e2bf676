"""The real master of the fan-in benchmark: `run_plan` with agents that join by ZeroMQ.

`python -m benchmarks.fan_in_master PORT AGENTS PLAN_FILE RESULTS_FOLDER [KEYS]` prints one
JSON line for each window when it has been archived (its label and the time), and one at the
end. KEYS is a file of `FleetKeys`: then it listens with CURVE. The archive writer is the real
one; only the moment of each call is noted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from benchmarks.simulated_agents import FleetKeys
from loadtests.plan.codec import decode_plan
from loadtests.record.archive import ArchiveWriter
from loadtests.record.window import Count, Window
from loadtests.swarm.keys import KeyPair, MasterKeys
from loadtests.swarm.run import ExpectedWorkers, run_plan

_WAIT_S = 60.0


def _note_archiving() -> None:
    append = ArchiveWriter.append_window

    def append_window(self: ArchiveWriter, window: Window) -> None:
        append(self, window)
        note = {
            "label_s": window.start_s,
            "archived_unix_ns": time.time_ns(),
            "ok": window.total(Count.OK),
        }
        print(msgspec.json.encode(note).decode(), flush=True)

    ArchiveWriter.append_window = append_window  # type: ignore[method-assign]  # a note, see above


def _keys(path: Path) -> MasterKeys:
    fleet = msgspec.json.decode(path.read_bytes(), type=FleetKeys)
    own = KeyPair(name="master", public=fleet.master_public, secret=fleet.master_secret)
    agents = {public: f"agent-{number}" for number, (public, _) in enumerate(fleet.agents)}
    return MasterKeys(own=own, agents=agents)


def main(argv: list[str]) -> None:
    """Run the plan."""
    port, agents, plan_path, results = int(argv[0]), int(argv[1]), Path(argv[2]), Path(argv[3])
    keys_path = argv[4:]
    _note_archiving()
    outcome = run_plan(
        decode_plan(plan_path.read_bytes()),
        results=results,
        workers=ExpectedWorkers(
            count=agents,
            bind_host="127.0.0.1",
            bind_port=port,
            wait_s=_WAIT_S,
            keys=_keys(Path(keys_path[0])) if keys_path else None,
        ),
        web=None,
        on_progress=lambda _: None,
        authorised_hosts=(),
        command=("benchmarks.fan_in_master",),
    )
    print(f"{outcome.outcome.value}: {outcome.reason}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
