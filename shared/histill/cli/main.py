"""The entry point: so small that Ctrl-C is quiet even while the rest is being imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line."""
    # Before gRPC is imported: it would look after forks, and now and then abort a child that
    # embedded mode has just forked. None of ours uses it before it is another program.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        from histill.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
