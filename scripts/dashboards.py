"""Writes the Grafana dashboards into a folder.

Usage: python scripts/dashboards.py [FOLDER]
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import sys
from pathlib import Path

from dashboard_pages import inference, jobs, overview
from dashboard_pages.drawing import drawn

_FOLDER = Path(__file__).parents[1] / "deploy" / "helm" / "histill" / "files" / "grafana"
_PAGES = {"inference": inference.PAGE, "jobs": jobs.PAGE, "overview": overview.PAGE}


def main() -> int:
    """Writes one file a dashboard."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in _PAGES.items():
        (folder / f"{name}.json").write_text(drawn(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
