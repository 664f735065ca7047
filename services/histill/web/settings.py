"""Settings of the web process: ``HISTILL_WEB__*``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from histill.core.settings import ProcessSettings


class WebPart(BaseModel):
    """Where it listens, and the services it calls, as ``host:port``.

    Attributes:
        api_key: Sent to the services with every call; who reaches the page acts with it.
        ca_file: PEM file of the authority that signed the services' certificates; with
            it the channels use TLS.
        certificate: PEM file of our own certificate, where the services ask for one.
        key: PEM file of its key.
        allowed_hosts: Names under which the page may be asked for, against other pages
            that make a browser ask in their name (DNS rebinding); ``*`` allows all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    metrics_port: int = Field(default=9104, ge=-1, le=65535, description="-1: none")
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    jobs: str = "127.0.0.1:50051"
    registry: str = "127.0.0.1:50052"
    inference: str = "127.0.0.1:50053"
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    timeout_s: float = Field(default=120.0, gt=0, description="longest wait for an answer")
    max_upload_bytes: int = Field(default=256 << 20, ge=1 << 10)
    upload_s: float = Field(default=120.0, gt=0, description="longest time for a form to come")
    max_watchers: int = Field(default=64, ge=1, description="streams of events at a time")
    max_uploads: int = Field(default=4, ge=1, description="at a time; each is held in memory")


class WebSettings(ProcessSettings):
    """Everything the process reads from its environment."""

    web: WebPart = WebPart()
