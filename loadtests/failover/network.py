"""A node's network cut: its interface is set down inside its network namespace.

The kernel drops the routes of an interface that goes down, and brings back only those that
follow from its addresses. So routes that somebody added are noted before and added again.
"""

from __future__ import annotations

import shlex

from loadtests.failover.commands import must_succeed, run_command
from loadtests.failover.strike import Sight, Strike, fault_error

_UP = "UP"


def _inside(strike: Strike) -> list[str]:
    """Words before a command of the namespace: ip-netns(8) keeps its names in /run/netns."""
    namespace = strike.node.namespace
    path = namespace if namespace.startswith("/") else f"/run/netns/{namespace}"
    return ["nsenter", f"--net={path}"]


def _ip(strike: Strike, *words: str) -> list[str]:
    return [*_inside(strike), "ip", *words]


def _flags(strike: Strike) -> list[str]:
    ended = run_command(
        _ip(strike, "-oneline", "link", "show", "dev", strike.node.interface), strike
    )
    if ended.code != 0:
        expected = (
            f"interface {strike.node.interface} in {strike.node.namespace}, and root's rights"
        )
        raise fault_error(strike, ended.text or f"ip ended with {ended.code}", expected)
    return ended.text.partition("<")[2].partition(">")[0].split(",")


class Cut:
    """Link down, link up."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """The routes that will have to come back."""
        if _UP not in _flags(strike):
            raise fault_error(strike, "the interface is down already", "an interface that is up")
        ended = run_command(_ip(strike, "route", "show", "dev", strike.node.interface), strike)
        added = [line for line in ended.text.splitlines() if "proto kernel" not in line]
        return {"routes": "\n".join(added)}

    def apply(self, strike: Strike) -> None:
        """Set it down."""
        must_succeed(_ip(strike, "link", "set", "dev", strike.node.interface, "down"), strike)

    def undo(self, strike: Strike) -> None:
        """Set it up and add its routes again."""
        interface = strike.node.interface
        must_succeed(_ip(strike, "link", "set", "dev", interface, "up"), strike)
        for route in strike.before.get("routes", "").splitlines():
            words = [word for word in route.split() if word != "linkdown"]
            must_succeed(_ip(strike, "route", "replace", *words, "dev", interface), strike)

    def look(self, strike: Strike) -> Sight:
        """The interface's flags."""
        flags = _flags(strike)
        is_up = _UP in flags
        return Sight(is_in_force=not is_up, is_gone=is_up, text=",".join(flags))

    def repair(self, strike: Strike) -> str:
        """The same by hand."""
        return shlex.join(_ip(strike, "link", "set", "dev", strike.node.interface, "up"))
