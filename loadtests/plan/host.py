"""What this host offers a generator: cores, descriptors, ports, and its user's configuration.

Reads the host; `raise_descriptor_limit` alone changes something, the soft limit of this
process, which children inherit.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from loadtests.plan.authorisation import (
    Configuration,
    authorised_hosts,
    config_folder_of,
    find_configuration,
    load_configuration,
)
from loadtests.plan.feasibility import HostLimits

LOCAL_JOIN_WAIT_S: Final = 60.0  # for agents that the master itself starts
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS_BY_DEFAULT: Final = (32768, 60999)  # Linux's default, ip(7)


def own_configuration() -> Configuration:
    """The configuration of this host's user; ScenarioError when it is not valid."""
    return load_configuration(find_configuration(os.environ, folder=Path.cwd(), home=Path.home()))


def config_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's configuration and keys live."""
    return config_folder_of(environment, Path.home())


def own_authorised_hosts() -> tuple[str, ...]:
    """What this host's user authorises now, besides loopback."""
    return authorised_hosts(own_configuration(), datetime.now(tz=UTC))


def usable_cores() -> int:
    """Cores that this process may run on: its affinity, not the machine's number."""
    return len(os.sched_getaffinity(0))


def engine_count(engines: int | None, *, beside_master: bool) -> int:
    """Engines of an agent: as told, else one a core, less one for the master on its host."""
    if engines is not None:
        return engines
    return max(1, usable_cores() - 1) if beside_master else usable_cores()


def local_engine_count(engines: int | None, workers: int) -> int:
    """Engines of each worker on the master's own host: the cores left are divided among them."""
    return engines or max(1, (usable_cores() - 1) // workers)


def raise_descriptor_limit() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def ephemeral_ports() -> int:
    """Local ports that the kernel may give to outgoing connections, to one address and port."""
    try:
        low, high = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        low, high = _PORTS_BY_DEFAULT
    return high - low + 1


def host_limits() -> HostLimits:
    """Cores, descriptors and ports of this host, as feasibility takes them."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HostLimits(cores=usable_cores(), descriptors=hard, ephemeral_ports=ephemeral_ports())


def state_folder() -> Path:
    """`$XDG_STATE_HOME/headroom`: what programs remember of this host, for this user."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "headroom"
