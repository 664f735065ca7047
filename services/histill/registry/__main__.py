"""Starts the registry service: ``python -m histill.registry``."""

from __future__ import annotations

import sys

from histill.registry.bootstrap import run
from histill.registry.settings import RegistrySettings
from histill.rpc.main import main

if __name__ == "__main__":
    # They wait for S3 and Redis: a few long uploads must not starve health checks.
    sys.exit(main(RegistrySettings, run, process="registry", threads=64))
