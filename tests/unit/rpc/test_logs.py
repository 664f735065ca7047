"""What a log line holds, and what it must never hold."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from histill.core.settings import LogSettings
from histill.rpc.logs import configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """Logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # or configure would close pytest's own
    log = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**log)


def crash() -> None:
    metadata = {"authorization": "Bearer hush"}
    raise RuntimeError(f"{len(metadata)} broken")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_tells_where_but_not_with_which_values(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """Variables of the frames hold API keys and images, so they are not logged."""
    configure(LogSettings(json_lines=as_json), process="test")
    try:
        crash()
    except RuntimeError:
        structlog.get_logger().exception("crashed")
    line = capsys.readouterr().err
    assert "1 broken" in line
    assert "crash" in line
    assert "hush" not in line


def test_a_line_is_one_json_object_with_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Machines read the event, its values and where it comes from."""
    configure(LogSettings(json_lines=True), process="jobs")
    structlog.get_logger().info("job_created", job="jobs/x")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["job"], line["process"]) == ("job_created", "jobs/x", "jobs")
