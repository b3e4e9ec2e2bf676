"""What the protocols of one node share: its ledger, its behaviour, and what it counts.

REST and gRPC stand side by side on these parts: a transaction is the same whichever of them
brought it, one limiter counts both, and one log tells what the node truly did. Owns their
order of closing; refuses to know either protocol.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic_ns
from typing import Final

from loadtests.cluster.behaviour import Gate
from loadtests.cluster.committer import Committer
from loadtests.cluster.deadlines import Deadlines
from loadtests.cluster.ground_truth import GroundTruth
from loadtests.cluster.ledger import Member
from loadtests.cluster.metrics import Metrics
from loadtests.cluster.options import NodeOptions
from loadtests.cluster.store import Store

TICK_S: Final = 0.1  # how old a summary may be
GRACE_S: Final = 5.0  # for requests under way when the node is told to stop


class Workings:
    """The shared parts; `draining` is set when the node has been told to stop."""

    def __init__(self, options: NodeOptions, loop: asyncio.AbstractEventLoop, url: str) -> None:
        name, pid = options.name, os.getpid()
        self.name, self.version = name, options.version
        self.loop = loop
        self.draining = False
        self.deadlines = Deadlines(loop)
        self.gate = Gate(options.behaviour)
        self.is_plain = not options.behaviour.changes_answers()
        self.truth = GroundTruth(options.ground_truth) if options.ground_truth else None
        self.metrics = Metrics(options.store.parent)
        self.store = Store(options.store, options.durability)
        self.committer = Committer(
            options.store,
            options.durability,
            lambda: Member(name=name, url=url, pid=pid, seen_ns=monotonic_ns()),
            loop,
        )

    def tick(self) -> None:
        """Ten times a second: durations are binned, truth is written."""
        self.metrics.fold()
        if self.truth is not None:
            self.truth.flush()

    def close(self) -> None:
        """Commit what was handed over, then close; both protocols have drained before."""
        self.committer.stop(GRACE_S)
        self.deadlines.close()
        if self.truth is not None:
            self.truth.close()
