"""Descriptors of the master: enough for its agents, or no start.

A master without a free one cannot take a connection in: ZeroMQ's thread then spins on it and
agents wait in vain. An agent holds one connection, and two for a while when it comes again
after a cut: all of them may come again at once.
"""

from __future__ import annotations

from typing import Final

from loadtests.errors import HarnessError
from loadtests.plan.host import raise_descriptor_limit

OWN: Final = 64  # archive, libraries, ZeroMQ, web UI and metrics; some 40 were seen
PER_AGENT: Final = 2


def needed_descriptors(agents: int) -> int:
    """What a master of so many agents needs."""
    return OWN + PER_AGENT * agents


def refuse_too_few_descriptors(agents: int) -> None:
    """Raise the limit as far as this user may; HarnessError when that is too little."""
    allowed, needed = raise_descriptor_limit(), needed_descriptors(agents)
    if allowed < needed:
        raise HarnessError(
            where="master",
            seen=f"{allowed:,} descriptors allowed (ulimit -Hn)",
            expected=f"{needed:,} for {agents:,} workers: {PER_AGENT} each and {OWN} of its own",
        )
