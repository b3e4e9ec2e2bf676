"""One fault on one node, with everything that undoing it needs: what the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loadtests.errors import HarnessError
from loadtests.plan.failover import FaultNode, Settings


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process that cannot be taken for a later one of the same number (proc(5), starttime)."""

    pid: int
    start_ticks: int


class Strike(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`before` is what the action's `prepare` found and its `undo` goes back to.

    `owner` started the node and takes it along: when it has ended, so has the fault.
    """

    fault: str
    action: str
    node: FaultNode
    settings: Settings
    admin: str  # HAProxy's runtime socket; "": none
    health_path: str
    owner: Identity | None
    before: Mapping[str, str]

    @property
    def key(self) -> str:
        """Its name in the ledger."""
        return f"{self.fault}@{self.node.name}"

    def __str__(self) -> str:
        return f"{self.action} on {self.node.name} ({self.fault})"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is so now. Both False: on the way. None: nothing here can tell."""

    is_in_force: bool | None
    is_gone: bool | None
    text: str


class FaultError(HarnessError):
    """A fault could not be prepared, applied, seen or undone."""


def fault_error(strike: Strike, seen: str, expected: str) -> FaultError:
    """The error of one strike."""
    return FaultError(where=str(strike), seen=seen, expected=expected)
