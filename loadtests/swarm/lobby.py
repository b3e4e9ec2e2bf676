"""Who may take part: agents that offer themselves, and strangers that claim to belong.

Refuses other versions, other code, and everybody once membership is frozen. A second agent of the
same name and a spare wait: they are told nothing, and may join if a place becomes free.
What is remembered of strangers is bounded, and so is what is said to and about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.record.facts import LOCUSTFILE
from loadtests.swarm.lease import ClockEstimate
from loadtests.swarm.membership import Member
from loadtests.swarm.merge import Ledger
from loadtests.swarm.messages import PROTOCOL, Hello
from loadtests.swarm.outbox import Outbox
from loadtests.swarm.run_state import RunSetup

_REMEMBERED: Final = 1000


def differing_code(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """What differs or is missing there, by name; a locustfile only if both have one."""
    optional = {LOCUSTFILE} - theirs.keys()
    return sorted(
        name for name, digest in ours.items() if name not in optional and theirs.get(name) != digest
    )


class Lobby:
    """Takes `Hello`s; `members` is the coordinator's own book, by incarnation."""

    __slots__ = ("_members", "_out", "_repeat_ns", "_setup", "_strangers")

    def __init__(
        self, setup: RunSetup, members: dict[str, Member], out: Outbox, repeat_ns: int
    ) -> None:
        self._setup, self._members, self._out = setup, members, out
        self._repeat_ns = repeat_ns
        self._strangers: dict[str, int] = {}  # incarnation -> last answered

    def hello(self, peer: str, hello: Hello, now_ns: int, *, is_frozen: bool) -> Member | None:
        """Return the member that has newly joined, if this one may."""
        known = self._members.get(hello.incarnation)
        if known is not None:
            if known.peer != peer or known.agent != hello.agent:
                self._out.noise("message_foreign", peer, f"claims to be {hello.agent}", now_ns)
            return None
        if self._setup.is_named_by_key and hello.agent != peer:
            self._out.noise("message_foreign", peer, f"claims to be {hello.agent}", now_ns)
            return None
        is_namesake = any(member.agent == hello.agent for member in self._members.values())
        refusal = self._refusal(hello, is_frozen=is_frozen, is_namesake=is_namesake)
        if refusal is not None:
            self.refuse(peer, hello.incarnation, hello.agent, refusal, now_ns)
        elif is_namesake:
            text = "a second agent of this name waits until the first one is gone"
            self._once(hello, "agent_duplicate", text, now_ns)
        elif len(self._members) >= self._setup.agents:
            text = f"the run has its {self._setup.agents} agents; this one waits as a spare"
            self._once(hello, "agent_spare", text, now_ns)
        else:
            return self._join(peer, hello, now_ns)
        return None

    def _refusal(self, hello: Hello, *, is_frozen: bool, is_namesake: bool) -> str | None:
        if hello.protocol != PROTOCOL or hello.version != self._setup.version:
            return (
                f"version {hello.version} (protocol {hello.protocol}), expected "
                f"{self._setup.version} (protocol {PROTOCOL})"
            )
        differing = differing_code(self._setup.code, hello.code)
        if differing:
            return (
                f"its code differs from the master's in {', '.join(differing)}: install the same"
                " on both, code is compared and never sent"
            )
        if not is_frozen:
            return None
        if is_namesake:
            return "membership is frozen: a new incarnation of an agent has no part in the run"
        return "membership is frozen: it came too late"

    def _join(self, peer: str, hello: Hello, now_ns: int) -> Member:
        is_same_kernel = bool(hello.boot_id) and hello.boot_id == self._setup.boot_id
        member = Member(
            peer=peer,
            hello=hello,
            clock=ClockEstimate(is_same_kernel=is_same_kernel),
            heard_ns=now_ns,
            ledger=Ledger(range(0), self._setup.plan.slots),
        )
        self._members[hello.incarnation] = member
        text = f"joined with {hello.engines} engines"
        self._out.tell("agent_joined", hello.agent, text, now_ns)
        return member

    def _once(self, hello: Hello, kind: str, text: str, now_ns: int) -> None:
        if hello.incarnation not in self._strangers:
            self._remember(hello.incarnation, now_ns)
            self._out.noise(kind, hello.agent, text, now_ns)

    def _remember(self, incarnation: str, now_ns: int) -> None:
        if len(self._strangers) >= _REMEMBERED:
            self._strangers.pop(next(iter(self._strangers)))
        self._strangers[incarnation] = now_ns

    def refuse(self, peer: str, incarnation: str, who: str, reason: str, now_ns: int) -> None:
        """Refuse a stranger, not more often than messages are repeated."""
        last_ns = self._strangers.get(incarnation)
        if last_ns is not None and now_ns - last_ns < self._repeat_ns:
            return
        self._remember(incarnation, now_ns)
        self._out.noise("agent_refused", who, reason, now_ns)
        self._out.refuse(peer, incarnation, reason)
