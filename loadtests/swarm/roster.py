"""The frozen membership: which engine holds which share, who lives, who takes over.

Built at the barrier; indices go by agents' names, so that they do not depend on who came
first. Law: every arrival is held by exactly one engine at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from loadtests.plan.model import Share
from loadtests.record.window import SlotSpace
from loadtests.swarm.holdings import Holding, divide
from loadtests.swarm.membership import Member
from loadtests.swarm.merge import Ledger
from loadtests.swarm.messages import EnginePhase, SharePart


class Roster:
    """Holdings of all engines by index; `members` is the coordinator's own book."""

    __slots__ = ("_members", "_slots", "holdings")

    def __init__(self, members: Mapping[str, Member], slots: SlotSpace) -> None:
        self._members, self._slots = members, slots
        self.holdings: dict[int, Holding] = {}

    def freeze(self) -> None:
        """Give every engine its index and its share of the whole."""
        members = sorted(self._members.values(), key=lambda member: member.agent)
        engines = sum(member.hello.engines for member in members)
        for member in members:
            first = len(self.holdings)
            member.first_index = first
            member.ledger = Ledger(range(first, first + member.hello.engines), self._slots)
            for index in range(first, first + member.hello.engines):
                self.holdings[index] = Holding(
                    index=index,
                    engine=f"{member.agent}/{index - first}",
                    incarnation=member.incarnation,
                    shares=[Share(residue=index, modulus=engines, from_ns=0)],
                )

    def holding(self, member: Member, index: int) -> Holding | None:
        """An engine of this member; None for another's or nobody's."""
        holding = self.holdings.get(index)
        is_own = holding is not None and holding.incarnation == member.incarnation
        return holding if is_own else None

    def not_lost(self, member: Member) -> list[Holding]:
        """Engines of a member that are not given up yet."""
        own = range(member.first_index, member.first_index + member.hello.engines)
        return [self.holdings[index] for index in own if self.holdings[index].loss is None]

    def living(self) -> list[Holding]:
        """Engines that are not known to have ended."""
        ended = {
            state.index
            for member in self._members.values()
            for state in member.engine_states
            if state.phase >= EnginePhase.FINAL
        }
        return [
            holding
            for holding in self.holdings.values()
            if holding.loss is None and holding.index not in ended
        ]

    def redistribute(self, lost: Iterable[Holding], cut_ns: int) -> list[Member]:
        """Cut lost shares and divide them between the survivors; returns these' agents."""
        survivors = self.living()
        heirs: dict[str, Member] = {}
        for holding in lost:
            assert holding.loss is not None, "only a lost engine's shares are cut"
            holding.loss = replace(holding.loss, cut_ns=cut_ns)
            for part in divide(holding, survivors, cut_ns):
                heir = self.holdings[part.index]
                member = self._members[heir.incarnation]
                heir.shares.append(part.share)
                member.takeovers.append(
                    SharePart(
                        heir.index, part.share.residue, part.share.modulus, part.share.from_ns
                    )
                )
                heirs[heir.incarnation] = member
        return list(heirs.values())
