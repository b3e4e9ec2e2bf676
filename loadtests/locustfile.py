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
from loadtests.plan.model import Plan
from loadtests.swarm.front import install
from loadtests.swarm.placeholder import EngineUser

__all__ = ["EngineUser"]


def judge(path: Path, plan: Plan) -> ExitCode:
    """Read writes back, judge an archive, print the verdict, return the exit code."""
    # Workers import this file too, and have no use for analysis (pandas takes a second).
    from loadtests.commands.judgement import (  # noqa: PLC0415 - see above
        conclude,
        exit_code_of,
        print_run,
    )
    from loadtests.commands.terminal import Terminal  # noqa: PLC0415 - see above

    terminal = Terminal(stdout=sys.stdout, stderr=sys.stderr)
    run, verdict = conclude(path, plan, terminal)
    print_run(terminal, run, verdict, as_json=False)
    return exit_code_of(run.manifest.outcome, verdict.state)


# A process of its own, started by a master whose web UI is open.
install(judge, live_judge="loadtests.commands.provisional")
