"""Where the services are and with which key: from ``HISTILL_CLIENT__*`` or embedded mode."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from histill.core.errors import SettingsError
from histill.core.settings import told

_PREFIX = "HISTILL_CLIENT__"


class ClientSettings(BaseModel):
    """Endpoints are ``host:port``, or another of gRPC's names.

    Calls go in turn to all addresses of a name (``dns:///histill-inference-headless:50053``) or
    of a list (``ipv4:10.0.0.1:50053,10.0.0.2:50053``), one a replica. Certificates are checked
    against the name; a list has none, and works in clear text only.
    Source: https://github.com/grpc/grpc/blob/master/doc/naming.md.

    Attributes:
        api_key: Sent as a bearer token with every call.
        ca_file: PEM file of the authority that signed the servers' certificates;
            with it the channels use TLS.
        certificate: PEM file of our own certificate, where the servers ask for one (mTLS).
        key: PEM file of its key.
        timeout_s: Longest wait for an answer that is not a stream.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: str = "127.0.0.1:50051"
    registry: str = "127.0.0.1:50052"
    inference: str = "127.0.0.1:50053"
    web: str = "http://127.0.0.1:8080"
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    timeout_s: float = Field(default=60.0, gt=0)


def home() -> Path:
    """The folder of embedded mode: ``HISTILL_HOME``, else in the user's data folder."""
    if path := os.environ.get("HISTILL_HOME"):
        return Path(path)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "histill"


def client_file(folder: Path) -> Path:
    """The file in which embedded mode leaves its endpoints and key for clients."""
    return folder / "client.json"


def load_client(folder: Path | None = None) -> ClientSettings:
    """Settings from embedded mode's file, if there is one, under ``HISTILL_CLIENT__*``.

    Args:
        folder: Folder of embedded mode; by default ``home()``.

    Raises:
        SettingsError: A variable or the file is wrong.
    """
    path = client_file(folder or home())
    values = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX)
    }
    try:
        saved = ClientSettings.model_validate_json(path.read_bytes()) if path.exists() else None
        base = saved.model_dump() if saved else {}
        return ClientSettings.model_validate(base | values)
    except ValidationError as exc:
        raise SettingsError(f"{told(exc, prefix=_PREFIX)} (or in {path})") from exc
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
