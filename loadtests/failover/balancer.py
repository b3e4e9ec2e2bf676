"""Faults through HAProxy's runtime socket: drained, in maintenance, less weight.

States are read back with `show servers state`
(https://docs.haproxy.org/2.6/management.html#9.3): `srv_admin_state` is a mask, of which 1
is forced maintenance and 8 forced drain; `srv_uweight` is the weight that was set.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from loadtests.failover.strike import Sight, Strike, fault_error
from loadtests.plan.connecting import connect
from loadtests.plan.host import own_authorised_hosts

_TIMEOUT_S: Final = 3.0
_MOST_BYTES: Final = 4 * 1024 * 1024
_MAINTENANCE, _DRAIN = 0x01, 0x08
_OPERATIONAL, _STATE, _WEIGHT = 5, 6, 7  # columns of `show servers state`
_COLUMNS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What HAProxy says of one server; `operational` 0 is down."""

    operational: int
    admin: int
    weight: int


def _connected(admin: str) -> socket.socket:
    if not admin.startswith("/"):
        host, _, port = admin.rpartition(":")
        return connect(host.strip("[]"), int(port), own_authorised_hosts(), _TIMEOUT_S)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(_TIMEOUT_S)
        made.connect(admin)
    except OSError:
        made.close()
        raise
    return made


def tell_haproxy(admin: str, command: str) -> str:
    """One command of the runtime API and its answer; OSError when there is none."""
    with _connected(admin) as connection:
        connection.sendall(command.encode() + b"\n")
        answer = b""
        while len(answer) < _MOST_BYTES and (piece := connection.recv(65_536)):
            answer += piece
    return answer.decode(errors="replace").strip()


def ask_haproxy(strike: Strike, command: str) -> str:
    """One command and its answer; FaultError when there is none."""
    try:
        return tell_haproxy(strike.admin, command)
    except OSError as error:
        seen = f"{strike.admin}: {error}"
        raise fault_error(strike, seen, "HAProxy's runtime socket, of level admin") from error


def read_state(strike: Strike, server: str) -> ServerState:
    """One server, as `show servers state` has it; FaultError when there is none."""
    answer = ask_haproxy(strike, f"show servers state {server.partition('/')[0]}")
    state = server_states(answer).get(server)
    if state is None:
        raise fault_error(strike, answer[:200] or "no such server", f"HAProxy to have {server}")
    return state


def server_states(answer: str) -> dict[str, ServerState]:
    """What `show servers state` says, by "backend/server"."""
    rows = [line.split() for line in answer.splitlines()]
    return {
        f"{row[1]}/{row[3]}": ServerState(
            operational=int(row[_OPERATIONAL]), admin=int(row[_STATE]), weight=int(row[_WEIGHT])
        )
        for row in rows
        if len(row) >= _COLUMNS and row[_STATE].isdigit()
    }


def give_order(strike: Strike, command: str) -> None:
    """A command that changes something; FaultError when it is not taken.

    HAProxy answers one that it has carried out with nothing.
    """
    answer = ask_haproxy(strike, command)
    if answer:
        raise fault_error(strike, answer[:200], f"HAProxy to take {command!r}")


class Drain:
    """No new requests to a node's servers; those under way go on."""

    word, bit = "drain", _DRAIN

    def prepare(self, strike: Strike) -> dict[str, str]:
        """Servers that nobody has drained or taken out before."""
        for server in strike.node.servers:
            if read_state(strike, server).admin & (_DRAIN | _MAINTENANCE):
                raise fault_error(strike, f"{server} is out already", "a server in use")
        return {}

    def apply(self, strike: Strike) -> None:
        """Set the state of each server."""
        for server in strike.node.servers:
            give_order(strike, f"set server {server} state {self.word}")

    def undo(self, strike: Strike) -> None:
        """Back to ready."""
        for server in strike.node.servers:
            give_order(strike, f"set server {server} state ready")

    def look(self, strike: Strike) -> Sight:
        """What HAProxy says of all of them."""
        masks = [read_state(strike, server).admin for server in strike.node.servers]
        is_in_force = all(mask & self.bit for mask in masks)
        is_gone = not any(mask & self.bit for mask in masks)
        return Sight(is_in_force=is_in_force, is_gone=is_gone, text=f"admin state {masks}")

    def repair(self, strike: Strike) -> str:
        """The same by hand."""
        return "; ".join(
            f"echo 'set server {server} state ready' | socat stdio {strike.admin}"
            for server in strike.node.servers
        )


class Maintenance(Drain):
    """A node's servers are taken out: no requests, no health checks."""

    word, bit = "maint", _MAINTENANCE


class Weight:
    """A node's servers get a part of their usual weight."""

    def prepare(self, strike: Strike) -> dict[str, str]:
        """The weights to go back to."""
        return {server: str(read_state(strike, server).weight) for server in strike.node.servers}

    def apply(self, strike: Strike) -> None:
        """Set the weight, in percent of the configured one."""
        for server in strike.node.servers:
            give_order(strike, f"set weight {server} {strike.settings.weight_percent}%")

    def undo(self, strike: Strike) -> None:
        """Back to what was found."""
        for server in strike.node.servers:
            give_order(strike, f"set weight {server} {strike.before[server]}")

    def look(self, strike: Strike) -> Sight:
        """Weights as HAProxy has them; 100 % are in force and gone at once."""
        weights = {server: read_state(strike, server).weight for server in strike.node.servers}
        is_gone = all(str(weight) == strike.before[s] for s, weight in weights.items())
        is_same = strike.settings.weight_percent == 100  # noqa: PLR2004 - percent
        return Sight(is_in_force=not is_gone or is_same, is_gone=is_gone, text=f"{weights}")

    def repair(self, strike: Strike) -> str:
        """The same by hand."""
        return "; ".join(
            f"echo 'set weight {server} {strike.before.get(server, '100%')}' "
            f"| socat stdio {strike.admin}"
            for server in strike.node.servers
        )
