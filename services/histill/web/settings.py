"""Settings of the web process: ``HISTILL_WEB__*``."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from histill.core.settings import ProcessSettings


class WebPart(BaseModel):
    """Where it listens, and the services it calls, as ``host:port``.

    Attributes:
        guest_key: Sent to the services for whoever is not signed in: such a visitor may do what
            this key may. Empty, they are asked to sign in, unless the services ask nobody.
        secure_cookies: Whoever signs in gets a cookie that browsers send over HTTPS only; they
            take http://127.0.0.1 for as good, except Safari. False where the page is served
            over plain HTTP.
        trusted_proxies: Addresses or networks of reverse proxies whose X-Forwarded-For is believed,
            from its end to the first address that is none of theirs. ``*`` believes its first
            one: only behind a proxy that lets nothing of the header through that others wrote.
        sign_in_failures_per_minute: Wrong keys that one address may try a minute; 0: any number.
        max_upload_bytes: Largest file that is passed on; the inference service has a bound of
            its own.
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
    guest_key: SecretStr = SecretStr("")
    secure_cookies: bool = True
    trusted_proxies: tuple[str, ...] = ()
    sign_in_failures_per_minute: int = Field(default=12, ge=0)
    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    jobs: str = "127.0.0.1:50051"
    registry: str = "127.0.0.1:50052"
    inference: str = "127.0.0.1:50053"
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    timeout_s: float = Field(default=120.0, gt=0, description="longest wait for an answer")
    max_upload_bytes: int = Field(default=1 << 30, ge=1 << 10)
    max_uploads: int = Field(default=4, ge=1, description="images in work at a time")
    max_watchers: int = Field(default=64, ge=1, description="streams of events at a time")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """What is none would never be met, and everybody would count as the proxy."""
        if value != ("*",):
            for each in value:
                ip_network(each)
        return value


class WebSettings(ProcessSettings):
    """Everything the process reads from its environment."""

    web: WebPart = WebPart()
