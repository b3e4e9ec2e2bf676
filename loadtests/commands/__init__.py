"""The commands, one module each; `COMMANDS` is their order in the help text.

A command module offers `add_parser(commands)` and sets `execute(arguments, terminal)`,
which returns an ExitCode. Locust patches the standard library on import, so the commands
that start a swarm import it inside `execute`.
"""

from __future__ import annotations

from loadtests.commands import (
    archive,
    baseline,
    calibrate,
    check,
    cluster,
    demo,
    run,
    worker,
)

COMMANDS = (demo, run, worker, check, cluster, calibrate, archive, baseline)
