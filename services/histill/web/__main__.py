"""Starts the web process: ``python -m histill.web``."""

from __future__ import annotations

import sys

from histill.rpc.main import main
from histill.web.bootstrap import run
from histill.web.settings import WebSettings

if __name__ == "__main__":
    sys.exit(main(WebSettings, run, process="web"))
