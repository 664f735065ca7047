"""Settings of tracing, for every process."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from histill.core.service_settings import Part


class TracingSettings(Part):
    """Where spans go; without an endpoint none are made."""

    endpoint: str = Field(
        default="", description="of a collector, OTLP over gRPC: http(s)://host:4317; empty: off"
    )
    ratio: float = Field(
        default=1.0, ge=0, le=1, description="share of the traces begun here that are kept"
    )
    ca_file: str = Field(default="", description="PEM of the collector's authority; empty: gRPC's")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        parts = urlsplit(self.endpoint)
        if self.endpoint and not (parts.scheme in {"http", "https"} and parts.hostname):
            raise ValueError("endpoint must be http://host:port or https://host:port")
        if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("endpoint is a host and a port, without a path or a password")
        if self.ca_file and parts.scheme != "https":
            raise ValueError("ca_file belongs to an endpoint that begins with https://")
        return self
