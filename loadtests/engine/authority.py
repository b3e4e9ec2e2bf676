"""Who may be loaded: decided on the resolved address, at the moment of connecting.

Pure. Loopback always; link-local addresses (cloud metadata among them), multicast and the
unspecified address never; anything else only when its host name, address or network is in
the list of the user. A name that resolves somewhere new is therefore refused, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA_V6 = ipaddress.ip_address("fd00:ec2::254")


def _plain(address: str) -> Address:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return mapped if mapped is not None else parsed


def _lists(entry: str, host: str, address: Address) -> bool:
    if entry.rstrip(".").lower() == host.rstrip(".").lower():
        return True
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


def refusal(host: str, address: str, authorised: Sequence[str]) -> str | None:
    """Why `address` of `host` must not be loaded; None when it may be."""
    plain = _plain(address)
    if plain.is_loopback:
        return None
    if plain.is_link_local or plain == _METADATA_V6:
        return f"{address} is link-local (metadata services live there)"
    if plain.is_multicast or plain.is_unspecified:
        return f"{address} is no single host"
    if any(_lists(entry, host, plain) for entry in authorised):
        return None
    return f"{address} ({host}) is not listed under [authorised_targets]"
