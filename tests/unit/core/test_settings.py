"""Settings from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from histill.core.errors import SettingsError
from histill.core.service_settings import TlsSettings
from histill.core.settings import GROUPS, ServiceSettings, load, variable_names
from histill.distill.settings import WorkerSettings
from histill.inference.settings import InferenceSettings
from histill.jobs.settings import JobsSettings
from histill.registry.settings import RegistrySettings
from histill.web.settings import WebSettings

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


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


def test_variables_of_other_processes_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One shell can start every process; each checks its own groups only."""
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", "x")
    monkeypatch.setenv("HISTILL_WORKER__CONCURRENCY", "2")
    monkeypatch.setenv("HISTILL_DATA", "x")
    assert load(ServiceSettings)


def test_nobody_is_let_in_by_default() -> None:
    """Without a word about authentication, every call needs a key, and there is none."""
    settings = load(ServiceSettings)
    assert (settings.auth.mode, settings.auth.api_keys) == ("api_key", ())


def test_every_field_has_a_variable() -> None:
    """The list of variables holds nested fields under their full names."""
    assert {"HISTILL_REDIS__URL", "HISTILL_TLS__CLIENT_CA"} <= variable_names(ServiceSettings)


def test_every_group_of_every_process_is_known() -> None:
    """A process with a new group is not a stranger to the others."""
    kinds: list[type[BaseSettings]] = [
        JobsSettings,
        RegistrySettings,
        InferenceSettings,
        WebSettings,
        WorkerSettings,
    ]
    groups = {name.upper() for kind in kinds for name in kind.model_fields}
    assert groups | {"CLIENT"} == GROUPS


@pytest.mark.parametrize("files", [{"certificate": "c"}, {"key": "k"}, {"client_ca": "a"}], ids=str)
def test_half_of_tls_is_an_error(files: dict[str, str]) -> None:
    """What looks protected and is not would be worse than no setting."""
    with pytest.raises(ValueError, match="certificate"):
        TlsSettings.model_validate(files)


@pytest.mark.parametrize("kind", [JobsSettings, WorkerSettings])
@pytest.mark.parametrize("value", ["[]", '["gpu", "gpu"]', '["GPU"]', '["a,b"]', '[""]', "gpu"])
def test_pools_are_names_each_once_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseSettings], value: str
) -> None:
    """For services that accept jobs and for workers that run them; the variable is named."""
    variable = "HISTILL_JOBS__POOLS" if kind is JobsSettings else "HISTILL_WORKER__POOLS"
    monkeypatch.setenv(variable, '["gpu", "default-2"]')
    assert load(kind)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(kind)
