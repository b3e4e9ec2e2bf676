"""Which addresses may be reached: decided on what a name resolved to, when connecting.

Pure. Loopback always. Never: link-local addresses and the metadata services of clouds,
multicast, broadcast and the unspecified address, also when they are written inside an IPv6
address (mapped, NAT64, 6to4). Anything else only when its host name, address or network is
in the list of the user; a listed name that resolves somewhere new is the same target.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
LISTED: Final = "a host name, an address, or a range such as 10.1.0.0/16"
# Link-local ones (169.254.169.254, of most clouds) need no list.
_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
_BROADCAST: Final = ipaddress.ip_address("255.255.255.255")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_LOW_32: Final = 0xFFFF_FFFF


class RefusedAddressError(OSError):
    """An address that may not be reached; an OSError, as every failure to connect is."""


def parse_address(text: str) -> Address | None:
    """An address without its scope, IPv4-mapped IPv6 as IPv4; None for what is a name."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed if mapped is None else mapped


def parse_network(text: str) -> Network | None:
    """An address or a range, IPv4-mapped IPv6 as IPv4; None for what is a name."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & _LOW_32
        return ipaddress.IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    return network


def lists(entry: str, host: str, address: Address | None) -> bool:
    """True when an entry is this host, this address, or the range that it lies in."""
    if entry.rstrip(".").lower() == host.rstrip(".").lower():
        return True
    network = parse_network(entry)
    if network is None or address is None or address.version != network.version:
        return False
    return address in network


def _inside(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it says so itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & _LOW_32)
        return address.sixtofour or address
    return address


def never(address: Address) -> str | None:
    """Why nobody's list can allow an address; None when one could."""
    for one in (address, _inside(address)):
        if one.is_link_local or one in _METADATA:
            return f"{address} is link-local or a metadata service"
        if one.is_multicast or one.is_unspecified or one == _BROADCAST:
            return f"{address} is no single host"
    return None


def unlistable(entry: str) -> str | None:
    """What is wrong with an entry that could never allow a host; None for one that could."""
    network = parse_network(entry)
    if network is not None and network.num_addresses == 1:
        return never(network.network_address)
    if network is not None:
        is_never = network.is_link_local or network.is_multicast
        return f"{entry} is link-local or of groups" if is_never else None
    # What ends in a number is no name (RFC 1123, 2.1), but an address that was mistyped.
    last = entry.rstrip(".").rpartition(".")[2]
    is_name = HOST_NAME.fullmatch(entry) is not None and not last.isdigit()
    return None if is_name else "neither a name nor an address"


def refusal(host: str, address: str, authorised: Sequence[str]) -> str | None:
    """Why `address` of `host` must not be reached; None when it may be."""
    plain = parse_address(address)
    if plain is None:
        return f"{address!r} is no address"
    if plain.is_loopback:
        return None
    reason = never(plain)
    if reason is None and not any(lists(entry, host, plain) for entry in authorised):
        reason = f"{address} ({host}) is not listed under [authorised_targets]"
    return reason


def check_addresses(host: str, addresses: Iterable[str], authorised: Sequence[str]) -> None:
    """RefusedAddressError unless every address of a host may be reached."""
    for address in addresses:
        reason = refusal(host, address, authorised)
        if reason is not None:
            raise RefusedAddressError(reason)
