"""Starts the jobs service: ``python -m histill.jobs``."""

from __future__ import annotations

import sys

from histill.jobs.bootstrap import run
from histill.jobs.settings import JobsSettings
from histill.rpc.main import main

if __name__ == "__main__":
    # They wait for S3 and Redis: a few long uploads must not starve health checks.
    sys.exit(main(JobsSettings, run, process="jobs", threads=64))
