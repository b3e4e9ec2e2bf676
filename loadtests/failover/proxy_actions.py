"""Faults of a node's connections, through the fault proxy that stands before it."""

from __future__ import annotations

import shlex
import sys

import msgspec

from loadtests.failover.proxy_control import Mode, Orders, tell_proxy
from loadtests.failover.strike import Sight, Strike, fault_error


def _tell(strike: Strike, orders: Orders | None) -> Orders:
    try:
        return tell_proxy(strike.node.proxy, orders)
    except (OSError, msgspec.MsgspecError) as error:
        seen = f"{strike.node.proxy}: {error}"
        raise fault_error(strike, seen, "the control socket of a fault proxy") from error


class Latency:
    """Every byte is delivered later, in both directions."""

    mode = Mode.LATENCY

    def prepare(self, strike: Strike) -> dict[str, str]:
        """A proxy that passes everything on."""
        now = _tell(strike, None)
        if now.mode is not Mode.PASS:
            raise fault_error(strike, f"the proxy is set to {now.mode.value}", "one that passes")
        return {}

    def apply(self, strike: Strike) -> None:
        """Set the proxy's mode."""
        settings = strike.settings
        orders = Orders(
            mode=self.mode, latency_ns=settings.latency_ns, bytes_per_s=settings.bytes_per_s
        )
        _tell(strike, orders)

    def undo(self, strike: Strike) -> None:
        """Let it pass everything on."""
        _tell(strike, Orders(mode=Mode.PASS))

    def look(self, strike: Strike) -> Sight:
        """What the proxy says of itself."""
        now = _tell(strike, None).mode
        is_in_force, is_gone = now is self.mode, now is Mode.PASS
        return Sight(is_in_force=is_in_force, is_gone=is_gone, text=f"mode {now.value}")

    def repair(self, strike: Strike) -> str:
        """The same by hand."""
        module = "loadtests.failover.proxy_control"
        return shlex.join([sys.executable, "-m", module, strike.node.proxy, Mode.PASS.value])


class Bandwidth(Latency):
    """So many bytes a second in each direction of each connection."""

    mode = Mode.BANDWIDTH


class Reset(Latency):
    """Connections are reset, those there are and those that come."""

    mode = Mode.RESET


class BlackHole(Latency):
    """Bytes are swallowed; connections open and stay open."""

    mode = Mode.BLACK_HOLE


class HalfOpen(Latency):
    """The node's side of each connection is forgotten; the client's is not told."""

    mode = Mode.HALF_OPEN
