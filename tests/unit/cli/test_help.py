"""The command line as a whole."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from histill.cli.app import app

COMMANDS = [
    "",
    "up",
    "demo",
    "doctor",
    "segment",
    *(
        f"jobs {verb}"
        for verb in ("submit", "ls", "get", "watch", "cancel", "report", "samples", "rm")
    ),
    *(f"models {verb}" for verb in ("push", "ls", "get", "alias", "rm")),
    *(f"datasets {verb}" for verb in ("push", "ls", "rm")),
    *(f"privacy {verb}" for verb in ("audit", "neighbours")),
    *(f"keys {verb}" for verb in ("create", "ls", "revoke", "whoami")),
    *(f"audit {verb}" for verb in ("verify", "ls")),
    *(f"setup {verb}" for verb in ("secrets", "bucket")),
    "models verify",
    "signing new-key",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """Each command exists and has a help text."""
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_a_wrong_flag_is_wrong_usage() -> None:
    """The exit code is 2."""
    assert CliRunner().invoke(app, ["jobs", "ls", "--nope"]).exit_code == 2
