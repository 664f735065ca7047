"""Starts the registry service: ``python -m histill.registry``."""

from __future__ import annotations

import sys

from histill.registry.bootstrap import run
from histill.registry.settings import RegistrySettings
from histill.rpc.main import main

if __name__ == "__main__":
    sys.exit(main(RegistrySettings, run, process="registry"))
