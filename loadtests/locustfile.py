"""The locustfile: Headroom behind the plain `locust` command.

    locust -f loadtests/locustfile.py --master --scenario scenarios/smoke.toml \
        --expect-workers 2 --headless
    locust -f loadtests/locustfile.py --worker --master-host 127.0.0.1

A composition root like the command line: it joins the swarm to the verdict, so that
Locust's exit code is the verdict of the run. Nobody imports it but Locust.
"""

from __future__ import annotations

import sys
from pathlib import Path

from loadtests.errors import ExitCode
from loadtests.swarm.front import install
from loadtests.swarm.placeholder import EngineUser

__all__ = ["EngineUser"]


def judge(path: Path) -> ExitCode:
    """Judge an archive, print the verdict, return the exit code."""
    # Workers import this file too, and have no use for analysis (pandas takes a second).
    from loadtests.commands.judgement import (  # noqa: PLC0415 - see above
        exit_code_of,
        judge_and_store,
        print_run,
    )
    from loadtests.commands.terminal import Terminal  # noqa: PLC0415 - see above

    run, verdict = judge_and_store(path)
    print_run(Terminal(stdout=sys.stdout, stderr=sys.stderr), run, verdict, as_json=False)
    return exit_code_of(run.manifest.outcome, verdict.state)


# A process of its own, started by a master whose web UI is open.
install(judge, live_judge="loadtests.commands.provisional")
