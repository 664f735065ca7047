"""Puts the commands together and turns errors into a sentence and an exit code.

Exit codes: 0 done, 1 the work failed, 2 wrong usage.
"""

from __future__ import annotations

import sys

import typer

from histill.cli import (
    audit,
    datasets,
    demo,
    doctor,
    jobs,
    keys,
    models,
    privacy,
    segment,
    setup,
    signing,
    up,
)
from histill.cli.output import complain
from histill.core.errors import HistillError, InvalidArgumentError, SettingsError, UnavailableError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distils heavy medical-image segmentation models into light ones, and serves them.",
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(privacy.app, name="privacy")
app.add_typer(audit.app, name="audit")
app.add_typer(signing.app, name="signing")
models.app.command("verify")(signing.verify)
app.add_typer(keys.app, name="keys")
app.add_typer(setup.app, name="setup")
app.command("segment")(segment.segment)
app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def run() -> None:
    """Runs the command line and exits as its last words say."""
    try:
        app()
    except (InvalidArgumentError, SettingsError) as exc:
        complain(str(exc))
        sys.exit(2)
    except UnavailableError as exc:
        complain(f"{exc}; histill doctor says more")
        sys.exit(1)
    except (HistillError, OSError) as exc:
        complain(str(exc))
        sys.exit(1)
