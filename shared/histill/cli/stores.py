"""The object store itself, for commands that need more than the services tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_settings import BaseSettings, SettingsConfigDict

from histill.client.settings import home
from histill.core.audit_settings import AuditSettings
from histill.core.errors import NotFoundError
from histill.core.settings import PREFIX, S3Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.adapters.s3 import S3ObjectStore


class StoreSettings(BaseSettings):
    """What such commands read from ``HISTILL_*``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    s3: S3Settings = S3Settings()
    audit: AuditSettings = AuditSettings()


def open_store(settings: StoreSettings) -> S3ObjectStore:
    """The store of ``HISTILL_S3__*``, else that of embedded mode on this machine.

    Raises:
        SettingsError: There are no keys for it.
    """
    from histill.adapters.s3 import S3ObjectStore

    s3, folder = settings.s3, home()
    if not s3.secret_key.get_secret_value() and (folder / "secrets.json").exists():
        s3 = _embedded(s3, folder)
    return S3ObjectStore.connect(s3)


def load_store_settings() -> StoreSettings:
    """Reads them, once.

    Raises:
        SettingsError: A variable is wrong.
    """
    return load(StoreSettings)


def _embedded(s3: S3Settings, folder: Path) -> S3Settings:
    from histill.embedded.layout import HOST, Ports, Secrets

    keys = Secrets.of(folder)
    usual = S3Settings().endpoint
    endpoint = f"{HOST}:{Ports().s3}" if s3.endpoint == usual else s3.endpoint
    return s3.model_validate(
        {
            **s3.model_dump(),
            "endpoint": endpoint,
            "access_key": keys.s3_access_key,
            "secret_key": keys.s3_secret_key,
        }
    )


@dataclass(frozen=True)
class FolderObjects:
    """Objects that were downloaded into a folder, by their keys."""

    folder: Path

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            NotFoundError: There is no such file.
        """
        try:
            return (self.folder / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFoundError(f"{self.folder / key} does not exist") from None

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted."""
        start = self.folder / prefix
        for path in sorted(start.rglob("*") if start.is_dir() else ()):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix()

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix``."""
        start = self.folder / prefix
        for path in sorted(start.iterdir() if start.is_dir() else ()):
            if path.is_dir():
                yield path.name
