"""A node's part of a rollout: its servers' weights, and nothing under way when it has none.

Only rollouts use it: its strikes are on every node of both versions, with the weights of a phase
in their settings. They go back to what was found; a server that had no traffic before is gone
back to when no request is under way on it any more.
"""

from __future__ import annotations

import csv
from io import StringIO

from loadtests.failover.balancer import Weight, ask_haproxy, give_order, read_state
from loadtests.failover.strike import Sight, Strike, fault_error

# Columns of `show stat`: https://docs.haproxy.org/2.6/management.html#9.1
_BACKEND, _SERVER, _UNDER_WAY = "# pxname", "svname", "scur"


class Traffic(Weight):
    """Weights as they are, not parts of those that were configured."""

    def apply(self, strike: Strike) -> None:
        """Set the weight of a phase."""
        for server in strike.node.servers:
            give_order(strike, f"set weight {server} {strike.settings.server_weight}")

    def look(self, strike: Strike) -> Sight:
        """Weights as HAProxy has them, and requests under way where there were none."""
        weights = {server: read_state(strike, server).weight for server in strike.node.servers}
        is_set = all(weight == strike.settings.server_weight for weight in weights.values())
        is_back = all(str(weight) == strike.before[s] for s, weight in weights.items())
        under_way = _under_way(strike) if is_back and set(strike.before.values()) == {"0"} else 0
        text = f"{weights}" + (f", {under_way} requests under way" if under_way else "")
        return Sight(is_in_force=is_set, is_gone=is_back and not under_way, text=text)


def _under_way(strike: Strike) -> int:
    """Requests on a node's servers."""
    rows = csv.DictReader(StringIO(ask_haproxy(strike, "show stat")))
    counts = {f"{row[_BACKEND]}/{row[_SERVER]}": row[_UNDER_WAY] for row in rows}
    try:
        return sum(int(counts[server]) for server in strike.node.servers)
    except (KeyError, ValueError) as error:
        raise fault_error(strike, f"show stat: {error}", "the sessions of its servers") from error
