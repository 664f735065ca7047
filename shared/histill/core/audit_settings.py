"""Settings of the audit log, for services and for whoever reads it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from histill.core.service_settings import Part

_SHORTEST_KEY = 32


class AuditSettings(Part):
    """Where records wait, how they are sealed, and what happens when they can go nowhere.

    Attributes:
        when_full: What is refused with UNAVAILABLE when ``max_bytes`` wait. ``refuse_writes``:
            calls that change something; images are segmented on, since care must not wait for
            a store, and the lost records are counted in the log itself. ``refuse_all``:
            inference too. ``drop``: nothing.
    """

    folder: str = Field(default="", description="for records that wait; empty: the system's")
    key: SecretStr = Field(default=SecretStr(""), description="for HMAC, 32 characters or more")
    every_s: float = Field(default=5.0, gt=0, le=3600, description="between two ways to S3")
    max_bytes: int = Field(default=256 << 20, ge=1 << 12, description="that may wait for S3")
    when_full: Literal["refuse_writes", "refuse_all", "drop"] = "refuse_writes"

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if 0 < len(self.key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"key must have {_SHORTEST_KEY} characters or more, or be empty")
        return self

    @property
    def key_bytes(self) -> bytes | None:
        """The key for HMAC; ``None`` for the plain hash."""
        return self.key.get_secret_value().encode() or None
