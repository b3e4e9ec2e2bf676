"""Agents on the master's own host: started by it, watched by it, gone with it.

Each is `python -m loadtests.swarm.agent`; the kernel kills it when the master's process
dies, and its engines with it. One of them runs the host's ticker.
"""

from __future__ import annotations

import time

from loadtests.swarm.children import Child, own_pid


class LocalAgents:
    """`count` agent processes, named agent-1 .. agent-N."""

    def __init__(self, count: int, engines_each: int, host: str, port: int) -> None:
        self._told: set[str] = set()
        self._children: dict[str, Child] = {}
        for number in range(1, count + 1):
            name = f"agent-{number}"
            arguments = ["--master-host", host, "--master-port", str(port), "--name", name]
            arguments += ["--engines", str(engines_each), "--parent", own_pid()]
            if number > 1:
                arguments.append("--without-ticker")
            self._children[name] = Child("loadtests.swarm.agent", arguments)

    def newly_dead(self) -> dict[str, str]:
        """Agents that ended since the last call, each with how it ended."""
        dead = {
            name: child
            for name, child in self._children.items()
            if name not in self._told and not child.is_alive
        }
        self._told |= dead.keys()
        return {name: child.how_it_ended() for name, child in dead.items()}

    def kill(self) -> None:
        """Kill all that live; `end` reaps them."""
        for child in self._children.values():
            child.kill()

    def end(self, wait_s: float) -> None:
        """Give them `wait_s` together to end by themselves, then kill what is left; reap all."""
        deadline = time.monotonic() + wait_s
        for child in self._children.values():
            child.wait(max(0.0, deadline - time.monotonic()))
        for child in self._children.values():
            child.end()
