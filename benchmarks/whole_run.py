"""A whole swarm on this machine for the cost benchmark: master, one agent, one engine.

`python -m benchmarks.whole_run PLAN_FILE RESULTS_FOLDER` prints the archive's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loadtests.plan.codec import decode_plan
from loadtests.swarm.run import LocalWorkers, run_plan


def main(argv: list[str]) -> None:
    """Run the plan."""
    outcome = run_plan(
        decode_plan(Path(argv[0]).read_bytes()),
        results=Path(argv[1]),
        workers=LocalWorkers(count=1, engines=1),
        web=None,
        on_progress=lambda _: None,
        authorised_hosts=(),
        command=("benchmarks.whole_run",),
    )
    print(outcome.path)


if __name__ == "__main__":
    main(sys.argv[1:])
