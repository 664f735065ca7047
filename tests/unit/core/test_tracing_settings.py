"""Settings of tracing."""

from __future__ import annotations

import pytest

from histill.core.errors import SettingsError
from histill.core.settings import ProcessSettings, load


def test_tracing_is_off_unless_somebody_asks_for_it() -> None:
    """There is no endpoint by default, and all is kept where there is one."""
    tracing = load(ProcessSettings).tracing
    assert (tracing.endpoint, tracing.ratio) == ("", 1.0)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ENDPOINT": "collector:4317"}, "endpoint must be http"),
        ({"ENDPOINT": "grpc://collector:4317"}, "endpoint must be http"),
        ({"ENDPOINT": "http://collector:4318/v1/traces"}, "without a path"),
        ({"ENDPOINT": "https://me:secret@collector:4317"}, "or a password"),
        ({"ENDPOINT": "http://collector:4317", "CA_FILE": "ca.crt"}, "begins with https"),
        ({"RATIO": "1.5"}, "HISTILL_TRACING__RATIO"),
    ],
    ids=["scheme", "other", "path", "password", "clear", "ratio"],
)
def test_what_cannot_be_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """With a sentence that says what it should be, and none of the values."""
    for name, value in variables.items():
        monkeypatch.setenv(f"HISTILL_TRACING__{name}", value)
    with pytest.raises(SettingsError, match=words) as caught:
        load(ProcessSettings)
    assert "secret@" not in str(caught.value)
