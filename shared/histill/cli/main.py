"""The entry point: so small that Ctrl-C is quiet even while the rest is being imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line."""
    try:
        from histill.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
