"""The agent's state machine: engines, their windows, batches, the lease.

Pure: messages, engine frames, ticks and times go in, actions come out.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.engine.messages import FromEngine
from loadtests.record.manifest import HostFacts
from loadtests.record.window import Hiccup
from loadtests.swarm.actions import AgentAction
from loadtests.swarm.messages import AgentPhase, ToAgent
from loadtests.swarm.timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSetup:
    """What an agent says of itself."""

    agent: str  # [A-Za-z0-9._-], unique in the run: host name or a given name
    incarnation: str  # new for every process, e.g. uuid4().hex
    engines: int
    host: HostFacts
    boot_id: str
    version: str
    versions: dict[str, str]
    authorised_hosts: tuple[str, ...]
    unix_minus_monotonic_ns: int
    expects_hiccups: bool  # a ticker runs and reports every second


class Agency:
    """One agent process. Every method returns actions that the caller carries out in order."""

    def __init__(self, *, setup: AgentSetup, timing: Timing, now_ns: int) -> None:
        raise NotImplementedError

    def receive(self, message: ToAgent, now_ns: int) -> list[AgentAction]:
        """Take a decoded message of the master."""
        raise NotImplementedError

    def malformed(self, error: str, now_ns: int) -> list[AgentAction]:
        """Count bytes that `decode_to_agent` refused."""
        raise NotImplementedError

    def checked(
        self, *, warnings: tuple[str, ...], failure: tuple[str, str] | None, now_ns: int
    ) -> list[AgentAction]:
        """Result of `RunPreflight`; `failure` is (family, sentence): target, harness, scenario."""
        raise NotImplementedError

    def engine_frame(self, k: int, frame: FromEngine, now_ns: int) -> list[AgentAction]:
        """Take a frame of engine `k`."""
        raise NotImplementedError

    def engine_gone(self, k: int, how: str, now_ns: int) -> list[AgentAction]:
        """Engine `k`'s socket ended or its frames are malformed; `how` goes to the archive."""
        raise NotImplementedError

    def hiccup(self, start_s: int, hiccup: Hiccup, now_ns: int) -> list[AgentAction]:
        """Take the ticker's figures of a second (unix, as labelled by `window_label`)."""
        raise NotImplementedError

    def window_label(self, at_ns: int) -> int | None:
        """Label of the window that a monotonic time lies in; None before T0 is known."""
        raise NotImplementedError

    def request_stop(self, reason: str, now_ns: int) -> list[AgentAction]:
        """SIGTERM or SIGINT of this agent: stop its engines, hand everything over."""
        raise NotImplementedError

    def tick(self, now_ns: int) -> list[AgentAction]:
        """Call about every 100 ms: beats, repeats, notices hung engines and ended leases."""
        raise NotImplementedError

    @property
    def phase(self) -> AgentPhase:
        """How far this agent has come."""
        raise NotImplementedError
