"""The folder of embedded mode: which ports, which secrets, where the data lies."""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from histill.core.api_keys import digest, new_secret
from histill.core.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"


class Ports(BaseModel):
    """One port a process, and one for its metrics where it has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    valkey: int = 16379
    s3: int = 19000
    jobs: int = 50051
    registry: int = 50052
    inference: int = 50053
    web: int = 8080
    jobs_metrics: int = 9101
    registry_metrics: int = 9102
    inference_metrics: int = 9103
    web_metrics: int = 9104
    worker_metrics: int = 9105

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody listens on at this moment."""
        with contextlib.ExitStack() as stack:
            ports = {}
            for name in cls.model_fields:
                bound = stack.enter_context(socket.socket())
                bound.bind((HOST, 0))
                ports[name] = bound.getsockname()[1]
        return cls(**ports)

    def taken(self) -> dict[str, int]:
        """Those that somebody listens on already."""
        return {name: port for name, port in self if not _bindable(port)}


def _bindable(port: int) -> bool:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((HOST, port))
        except OSError:
            return False
    return True


class Secrets(BaseModel):
    """Made once for a folder, readable by its owner only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    valkey_password: str
    s3_access_key: str
    s3_secret_key: str
    api_key: str
    # Empty in folders of earlier versions, whose stored keys carry no seal and shall go on.
    seal: str = ""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The folder's secrets, made at the first call.

        Raises:
            EmbeddedError: The file is there but cannot be read.
        """
        path = folder / "secrets.json"
        if path.exists():
            try:
                return cls.model_validate_json(path.read_bytes())
            except (ValidationError, OSError) as exc:
                raise EmbeddedError(f"{path} is damaged; remove it to make new keys") from exc
        made = cls(
            valkey_password=secrets.token_urlsafe(24),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(30),
            api_key=new_secret(),
            seal=secrets.token_urlsafe(32),
        )
        path.touch(mode=0o600)
        path.write_text(made.model_dump_json(indent=2))
        return made

    @property
    def api_key_sha256(self) -> str:
        """What the services keep of the API key."""
        return digest(self.api_key)
