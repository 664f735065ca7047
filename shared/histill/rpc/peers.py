"""The address of a peer, as limits count it."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote

_NETWORK_BITS = 64


def address_of(peer: str) -> str:
    """The host in gRPC's name of a peer; of an IPv6 address its /64, which one host may own.

    Args:
        peer: For example ``ipv4:10.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``.
    """
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind == "ipv4":
        return host
    if kind != "ipv6":
        return kind
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return kind
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _NETWORK_BITS), strict=False))
