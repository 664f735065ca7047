"""Settings from the environment."""

from __future__ import annotations

import pytest

from histill.core.errors import SettingsError
from histill.core.settings import ServiceSettings, load, variable_names


def test_variables_fill_nested_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two underscores go one level down; secrets do not print."""
    monkeypatch.setenv("HISTILL_S3__SECRET_KEY", "hush")
    monkeypatch.setenv("HISTILL_SERVER__PORT", "4711")
    settings = load(ServiceSettings)
    assert settings.server.port == 4711
    assert settings.s3.secret_key.get_secret_value() == "hush"
    assert "hush" not in repr(settings)


def test_a_misspelled_variable_is_an_error_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is silently ignored, and the near miss is named."""
    monkeypatch.setenv("HISTILL_S3__ENDPIONT", "x")
    with pytest.raises(SettingsError, match=r"did you mean HISTILL_S3__ENDPOINT\?"):
        load(ServiceSettings)


def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port beyond the range names its variable, and no value is repeated."""
    monkeypatch.setenv("HISTILL_SERVER__PORT", "70000")
    with pytest.raises(SettingsError, match="HISTILL_SERVER__PORT"):
        load(ServiceSettings)


def test_variables_of_clients_and_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell set up for the command line can start a service."""
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", "x")
    monkeypatch.setenv("HISTILL_DATA", "x")
    assert load(ServiceSettings)


def test_nobody_is_let_in_by_default() -> None:
    """Without a word about authentication, every call needs a key, and there is none."""
    settings = load(ServiceSettings)
    assert (settings.auth.mode, settings.auth.api_keys) == ("api_key", ())


def test_every_field_has_a_variable() -> None:
    """The list of variables holds nested fields under their full names."""
    assert {"HISTILL_REDIS__URL", "HISTILL_TLS__CLIENT_CA"} <= variable_names(ServiceSettings)
