"""Who allowed load on what: the user's configuration, and the refusal without it.

Loopback is always allowed. Any other host must be an entry of `headroom.toml`:

    [authorised_targets."api.staging.example.org"]   # a host name, an address or a CIDR
    owner = "payments team"
    max_rate = "50000 rps"                           # over all nodes of the entry
    expires = 2026-12-31                             # allowed through that day, UTC
    proof = "hr-9f1c5c..."                           # optional: a token that the owner gave, and
                                                     # serves at /.well-known/headroom-load-test

The file is $HEADROOM_CONFIG, else ./headroom.toml, else headroom.toml in the folder
$XDG_CONFIG_HOME/headroom (~/.config/headroom); the first that exists counts, alone. A host
name must be listed as that name: an address range does not allow the names that happen to
resolve into it, since a name can move.
What a name resolves to is checked again by the engine when it connects (`addresses.py`), and
link-local and metadata addresses can neither be listed nor reached by a listed name. Only entries
of loopback may last for ever.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

from loadtests.clock import NS_PER_S
from loadtests.errors import ScenarioError, TargetError
from loadtests.plan.addresses import (
    LISTED,
    lists,
    never,
    parse_address,
    parse_network,
    unlistable,
)
from loadtests.plan.attachments import read_text
from loadtests.plan.decoding import unknown_key
from loadtests.plan.model import Plan, is_loopback
from loadtests.plan.spec import MIB
from loadtests.plan.units import UnitError, parse_rate_per_s
from loadtests.plan.values import Mistakes, shown

VARIABLE: Final = "HEADROOM_CONFIG"
FILE_NAME: Final = "headroom.toml"
_KEYS: Final = ("owner", "max_rate", "expires", "proof")
_LEAST_PROOF: Final = 16  # characters: nothing that a page says by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorisedTarget:
    """One entry: `host` in lower case as written; load up to `max_rate_per_s` until `expires`."""

    host: str
    owner: str
    max_rate_per_s: float
    expires: datetime | None  # None: never, of loopback
    proof: str | None  # what the target serves when its owner agrees; None: not asked for

    def covers(self, host: str) -> bool:
        """True when the host is this name, this address or in this range."""
        return lists(self.host, host, parse_address(host))

    def is_expired(self, now: datetime) -> bool:
        """True from the end of the last allowed day on."""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A user's configuration; `path` is None where there is no file: loopback only."""

    path: Path | None
    targets: tuple[AuthorisedTarget, ...]


def config_folder_of(environment: Mapping[str, str], home: Path) -> Path:
    """`$XDG_CONFIG_HOME/headroom`: what a user has decided, for all folders and hosts."""
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "headroom"


def find_configuration(environment: Mapping[str, str], *, folder: Path, home: Path) -> Path | None:
    """The file that counts, or None; a file that $HEADROOM_CONFIG names need not exist."""
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE])
    for path in (folder / FILE_NAME, config_folder_of(environment, home) / FILE_NAME):
        if path.exists():
            return path
    return None


def _expires(value: object, host: str, where: str, mistakes: Mistakes) -> datetime | None:
    network = parse_network(host)
    match value:
        case None if is_loopback(host) or (network is not None and network.is_loopback):
            return None
        case datetime() if value.tzinfo is not None:
            return value
        case date() if not isinstance(value, datetime):
            return datetime.combine(value, time.max, tzinfo=UTC)
        case _:
            mistakes.add(where, shown(value), "a date such as 2026-12-31, or a time with its zone")
            return None


def _parse_entry(host: str, table: object, mistakes: Mistakes) -> AuthorisedTarget | None:
    where = f"authorised_targets.{shown(host)}"
    if not isinstance(table, dict):
        mistakes.add(where, shown(table), "a table with owner and max_rate")
        return None
    for key in sorted(table.keys() - set(_KEYS)):
        mistakes.add(f"{where}.{key}", "an unknown key", unknown_key(key, _KEYS))
    if (wrong := unlistable(host)) is not None:
        mistakes.add(where, wrong, LISTED)
    owner, max_rate = table.get("owner"), table.get("max_rate")
    if not isinstance(owner, str) or not owner.strip():
        mistakes.add(f"{where}.owner", shown(owner), "who allows load on this target")
        owner = ""
    proof = table.get("proof")
    if proof is not None and not (isinstance(proof, str) and len(proof.strip()) >= _LEAST_PROOF):
        mistakes.add(
            f"{where}.proof", shown(proof), f"a token of {_LEAST_PROOF} characters or more"
        )
    rate = 0.0
    try:
        rate = parse_rate_per_s(max_rate if isinstance(max_rate, str) else "")
    except UnitError as error:
        mistakes.add(f"{where}.max_rate", shown(max_rate), error.expected)
    return AuthorisedTarget(
        host=host.lower(),
        owner=owner,
        max_rate_per_s=rate,
        expires=_expires(table.get("expires"), host, f"{where}.expires", mistakes),
        proof=proof.strip() if isinstance(proof, str) else None,
    )


def _parse(text: str, mistakes: Mistakes) -> tuple[AuthorisedTarget, ...]:
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        mistakes.add("file", str(error), "TOML")
        return ()
    for key in sorted(raw.keys() - {"authorised_targets"}):
        mistakes.add(key, "an unknown key", unknown_key(key, ("authorised_targets",)))
    entries = raw.get("authorised_targets", {})
    if not isinstance(entries, dict):
        mistakes.add("authorised_targets", shown(entries), 'tables: [authorised_targets."HOST"]')
        return ()
    found = (_parse_entry(host, table, mistakes) for host, table in entries.items())
    return tuple(entry for entry in found if entry is not None)


def load_configuration(path: Path | None) -> Configuration:
    """Read `find_configuration`'s file; ScenarioError with all mistakes."""
    if path is None:
        return Configuration(path=None, targets=())
    mistakes = Mistakes()
    text = read_text(path, MIB, "file", mistakes)
    targets = () if text is None else _parse(text, mistakes)
    if mistakes.found:
        raise ScenarioError(str(path), tuple(mistakes.found))
    return Configuration(path=path, targets=targets)


def authorised_hosts(configuration: Configuration, now: datetime) -> tuple[str, ...]:
    """Names, addresses and ranges allowed at `now` (with a zone), for the engine's own guard."""
    return tuple(entry.host for entry in configuration.targets if not entry.is_expired(now))


def authorisation_of(host: str, configuration: Configuration, now: datetime) -> AuthorisedTarget:
    """The entry that allows load on a host that is not loopback; TargetError without one."""
    address = parse_address(host)
    reason = None if address is None else never(address)
    if reason is not None:
        raise TargetError(where="target", seen=reason, expected="a host that may be loaded at all")
    covering = [entry for entry in configuration.targets if entry.covers(host)]
    current = [entry for entry in covering if not entry.is_expired(now)]
    if current:
        return min(current, key=lambda entry: entry.max_rate_per_s)
    where = str(configuration.path or FILE_NAME)
    if covering:
        raise TargetError(
            where=where,
            seen=f"authorisation of {host} expired at {covering[0].expires}",
            expected=f"a new date agreed with {covering[0].owner}",
        )
    raise TargetError(
        where=where,
        seen=f"{host}, which is not an authorised target",
        expected=f'loopback, or an entry [authorised_targets."{host}"] with its owner',
    )


def foreign_metrics_hosts(plan: Plan) -> tuple[str, ...]:
    """Hosts that are asked for metrics and are not loopback: authorised like any other."""
    hosts = () if plan.scraping is None else plan.scraping.hosts
    return tuple(host for host in hosts if not is_loopback(host))


def foreign_fault_hosts(plan: Plan) -> tuple[str, ...]:
    """Hosts that faults strike and are not loopback: authorised like those that get load."""
    hosts = () if plan.failover is None else plan.failover.hosts
    return tuple(host for host in hosts if not is_loopback(host))


def refuse_unauthorised(plan: Plan, configuration: Configuration, now: datetime) -> None:
    """Return when every node may get this load from `now` (with a zone) to the plan's end.

    TargetError otherwise.

    An entry's max_rate is held against the part of the plan's hard ceiling (not only of
    its planned rate) that its nodes can get.
    """
    end = now + timedelta(seconds=plan.duration_ns / NS_PER_S)
    for host in (*foreign_metrics_hosts(plan), *foreign_fault_hosts(plan)):
        authorisation_of(host, configuration, now)
    for entry, part_ratio in _parts(plan, configuration, end).values():
        rate = plan.max_rate_per_s * part_ratio
        if rate > entry.max_rate_per_s * (1 + 1e-9):
            raise TargetError(
                where=str(configuration.path),
                seen=f"a ceiling of {rate:g} requests/s on {entry.host}",
                expected=f"at most {entry.max_rate_per_s:g}, as {entry.owner} allows "
                "(set target.max_rate of the scenario)",
            )


def authorised_per_s(plan: Plan, configuration: Configuration, now: datetime) -> float:
    """The highest ceiling that a plan for these nodes may have; infinite on loopback.

    TargetError for a host that may get no load at all.
    """
    parts = _parts(plan, configuration, now).values()
    return min((entry.max_rate_per_s / ratio for entry, ratio in parts), default=math.inf)


def _parts(
    plan: Plan, configuration: Configuration, now: datetime
) -> dict[str, tuple[AuthorisedTarget, float]]:
    """Entries that the plan's nodes need, by host, with the part (0-1) of the load each gets."""
    total = sum(node.weight for node in plan.nodes)
    parts: dict[str, tuple[AuthorisedTarget, float]] = {}
    for node in plan.nodes:
        entries = {
            entry.host: entry
            for entry in (authorisation_of(h, configuration, now) for h in node.foreign_hosts)
        }
        for host, entry in entries.items():
            before = parts[host][1] if host in parts else 0.0
            parts[host] = (entry, before + node.weight / total)
    return parts
