"""Starts the inference service: ``python -m histill.inference``."""

from __future__ import annotations

import sys

from histill.inference.bootstrap import run
from histill.inference.settings import InferenceSettings
from histill.rpc.main import main

if __name__ == "__main__":
    sys.exit(main(InferenceSettings, run, process="inference"))
