"""Host and port, as gRPC writes them."""

from __future__ import annotations


def joined(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
