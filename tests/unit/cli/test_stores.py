"""Which object store a command reads, and downloaded objects in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from histill.adapters.s3 import S3ObjectStore
from histill.cli.stores import FolderObjects, load_store_settings, open_store
from histill.core.errors import NotFoundError, SettingsError
from histill.embedded.layout import Secrets

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.settings import S3Settings


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[S3Settings]:
    """Settings of the stores that are opened, of which none is there."""
    found: list[S3Settings] = []

    def connect(settings: S3Settings) -> Any:
        found.append(settings)

    monkeypatch.setattr(S3ObjectStore, "connect", connect)
    return found


def test_embedded_mode_is_found_by_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[S3Settings]
) -> None:
    """Without a key in the environment; another port can still be given."""
    monkeypatch.setenv("HISTILL_HOME", str(tmp_path))
    keys = Secrets.of(tmp_path)
    open_store(load_store_settings())
    monkeypatch.setenv("HISTILL_S3__ENDPOINT", "127.0.0.1:4711")
    open_store(load_store_settings())
    assert [each.endpoint for each in opened] == ["127.0.0.1:19000", "127.0.0.1:4711"]
    assert {each.secret_key.get_secret_value() for each in opened} == {keys.s3_secret_key}


def test_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[S3Settings]
) -> None:
    """Whoever gives a key means that store."""
    Secrets.of(tmp_path)
    monkeypatch.setenv("HISTILL_HOME", str(tmp_path))
    monkeypatch.setenv("HISTILL_S3__SECRET_KEY", "given")
    open_store(load_store_settings())
    assert opened[0].secret_key.get_secret_value() == "given"
    assert opened[0].endpoint == "127.0.0.1:9000"


def test_without_either_the_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one knows what to set."""
    monkeypatch.setenv("HISTILL_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="HISTILL_S3__SECRET_KEY"):
        open_store(load_store_settings())


def test_a_folder_reads_like_a_store(tmp_path: Path) -> None:
    """Keys are sorted whatever their depth; what is missing is not found."""
    for name in ("audit/b/2.jsonl", "audit/a/1.jsonl", "audit/a/head.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    store = FolderObjects(tmp_path)
    assert list(store.list_folders("audit/")) == ["a", "b"]
    assert list(store.list("audit/a/")) == ["audit/a/1.jsonl", "audit/a/head.json"]
    assert store.get("audit/b/2.jsonl") == b"audit/b/2.jsonl"
    assert list(store.list("none/")) == []
    with pytest.raises(NotFoundError):
        store.get("audit/c")
