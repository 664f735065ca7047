"""Keys that were just made: each service looks for new ones by itself, every few seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import SecretStr

from histill.client import Client
from histill.core.errors import UnauthenticatedError

if TYPE_CHECKING:
    from histill.client import ClientSettings

_KNOWN_S = 30.0


def wait_until_known(settings: ClientSettings, secret: str) -> None:
    """Returns once the jobs service, the registry and inference let a key in.

    Args:
        settings: Of the services; their key does not matter.
        secret: Of the new key.
    """
    deadline = time.monotonic() + _KNOWN_S
    with Client(settings.model_copy(update={"api_key": SecretStr(secret)})) as own:
        for look in (own.jobs.list, own.models.list, own.inference.models):
            while True:
                try:
                    list(look())
                except UnauthenticatedError:
                    assert time.monotonic() < deadline, "a new key is not known"
                    time.sleep(0.1)
                else:
                    break
