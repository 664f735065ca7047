"""Asks a process of the same container whether it is ready; for HEALTHCHECK, which knows no gRPC.

Usage: python healthcheck.py grpc VARIABLE PORT, or http VARIABLE PORT PATH; the port stands in
VARIABLE, else it is PORT. A process without such a port (-1) counts as ready. Exits with 0 or 1.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import os
import sys
import urllib.request

HOST = "127.0.0.1"
TIMEOUT_S = 3.0


def grpc_ready(port: int) -> bool:
    """Whether the health service on a port says SERVING."""
    import grpc

    from histill.rpc.probe import is_serving

    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        try:
            return is_serving(channel, timeout_s=TIMEOUT_S)
        except grpc.RpcError:
            return False


def http_ready(port: int, path: str) -> bool:
    """Whether a path is answered with success."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def main(kind: str, variable: str, default: str, *path: str) -> int:
    """Asks once; returns the exit code."""
    port = int(os.environ.get(variable) or 0) or int(default)
    if port < 0:
        return 0
    return 0 if (http_ready(port, *path) if kind == "http" else grpc_ready(port)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
