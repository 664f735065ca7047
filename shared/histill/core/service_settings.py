"""Settings of a gRPC server: where it listens, who may call, and how much."""

from __future__ import annotations

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from histill.core.names import NAME_PATTERN
from histill.core.projects import DEFAULT

Role = Literal["viewer", "operator", "admin"]
_SHORTEST_SEAL = 32
_SHORTEST_LINGER_S = 3.0
_OWN_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


_KEY_ID = r"[A-Za-z0-9._:@/|+=-]{1,128}"


class Part(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiKey(Part):
    """One API key, stored as a hash.

    Attributes:
        id: Name of the holder, for logs: letters, digits and ``._:@/|+=-``.
        sha256: SHA-256 of the key in lower-case hexadecimal.
        role: ``viewer`` reads and segments, ``operator`` also submits and uploads,
            ``admin`` also deletes and makes keys.
        project: Whose models, datasets and jobs the holder sees, and whose quotas count.
            An admin of ``default`` may make keys for every project.
    """

    id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Role
    project: str = Field(default=DEFAULT, pattern=rf"^{NAME_PATTERN}$")

    @field_validator("id")
    @classmethod
    def _can_be_told(cls, value: str) -> str:
        # The audit log holds nothing of another form, so such a caller would have no name there.
        if not re.fullmatch(_KEY_ID, value):
            raise ValueError(
                f"{value!r} cannot stand in a log; write 1 to 128 letters, digits or ._:@/|+=- "
                "(pacs-ward-3, say)"
            )
        return value


class OidcSettings(Part):
    """Tokens (JWT) of an OpenID Connect issuer; off without an issuer."""

    issuer: str = Field(default="", description="as in the claim iss, to the last character")
    audience: str = Field(default="", description="that the claim aud must hold")
    jwks_url: str = Field(default="", description="empty: found through the issuer's discovery")
    ca_file: str = Field(default="", description="PEM of the issuer's authority; empty: certifi's")
    role_claim: str = Field(default="roles", description="dots lead into it: realm_access.roles")
    roles: dict[str, Role] = Field(
        default={}, description="by value of that claim; the highest that it gives counts"
    )
    project_claim: str = Field(default="", description="empty: everybody is of project default")
    leeway_s: float = Field(default=30.0, ge=0, le=300, description="for clocks that differ")
    require_nbf: bool = Field(
        default=False, description="refuse tokens without it; checked wherever it is there"
    )
    refresh_s: float = Field(default=300.0, ge=1, description="between two looks at its keys")
    min_fetch_s: float = Field(
        default=10.0, ge=0.1, description="no two fetches are closer, whatever is asked"
    )
    keep_s: float = Field(
        default=3600.0, ge=1, description="keys go on for so long while the issuer is away"
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="wait for the issuer")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.issuer:
            return self
        if not self.audience:
            raise ValueError("audience is missing; a token for another service would be let in")
        if not self.roles:
            raise ValueError("roles is missing; without it no token has a role")
        for name, url in (("issuer", self.issuer), ("jwks_url", self.jwks_url or self.issuer)):
            parts = urlsplit(url)
            near = parts.scheme == "http" and parts.hostname in _OWN_MACHINE
            if not (parts.scheme == "https" and parts.hostname) and not near:
                raise ValueError(f"{name} must begin with https://")
        return self


class AuthSettings(Part):
    """Who may call. ``mode=none`` must be written out: the default refuses everyone.

    Keys of the settings, stored keys, and tokens of an issuer (with ``oidc``) are taken
    side by side.
    """

    mode: Literal["api_key", "none"] = "api_key"
    seal: SecretStr = Field(
        default=SecretStr(""),
        description="for records of stored keys, 32 characters or more, the same in all services",
    )
    api_keys: tuple[ApiKey, ...] = ()
    refresh_s: float = Field(
        default=2.0, gt=0, le=3, description="between two looks for stored keys that changed"
    )
    oidc: OidcSettings = OidcSettings()

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if 0 < len(self.seal.get_secret_value()) < _SHORTEST_SEAL:
            raise ValueError(f"seal must have {_SHORTEST_SEAL} characters or more, or be empty")
        return self

    @property
    def seal_bytes(self) -> bytes | None:
        """What stored keys are sealed with; ``None``: they are not."""
        return self.seal.get_secret_value().encode() or None


class TlsSettings(Part):
    """PEM files; without a certificate the server listens in clear text.

    The files are looked at with each new connection, and taken when they have changed and
    belong together.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = Field(default="", description="with it, clients must show a certificate")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together; set both or neither")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca asks clients for certificates, which needs TLS itself")
        return self


class LimitSettings(Part):
    """How much one caller, one address and one connection may ask."""

    calls_per_s: float = Field(default=0.0, ge=0, description="of a caller, on average; 0: any")
    call_burst: int = Field(default=100, ge=1, description="calls of a caller at once")
    failures_per_minute: float = Field(
        default=60.0, ge=0, description="wrong credentials from one address; 0: any"
    )
    failure_burst: int = Field(default=30, ge=1, description="wrong credentials at once")
    concurrent_calls: int = Field(default=2000, ge=1, description="of the whole server")
    open_calls: int = Field(
        default=100, ge=1, description="health checks and reflection at once, of anybody"
    )
    message_s: float = Field(
        default=30.0, gt=0, description="from a call's headers to the end of its one message"
    )
    concurrent_streams: int = Field(
        default=1000, ge=1, description="of a connection; the next ones wait in the client"
    )
    metadata_bytes: int = Field(default=16 << 10, ge=1 << 10, le=1 << 20)
    ping_interval_s: float = Field(
        default=10.0, ge=0.01, description="clients that ping more often are sent away"
    )
    ping_strikes: int = Field(default=2, ge=1, description="pings too early that are forgiven")
    handshake_s: float = Field(default=20.0, gt=0, description="for TLS and HTTP/2 to begin")


class ConnectionSettings(Part):
    """How long a connection lasts, and how the server finds out that a peer is gone."""

    keepalive_s: float = Field(default=60.0, ge=1, description="silence after which it pings")
    keepalive_timeout_s: float = Field(default=20.0, gt=0, description="wait for the answer")
    idle_s: float = Field(default=900.0, ge=0.1, description="without a call")
    age_s: float = Field(
        default=3600.0,
        ge=0.1,
        description="after it, new calls take a new connection; at most a third of linger_s",
    )
    grace_s: float = Field(
        default=3600.0, ge=0.1, description="calls may go on after that age: the longest stream"
    )


class ServerSettings(Part):
    """A gRPC server."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container listens to its network
    port: int = Field(default=0, ge=0, le=65535, description="0 takes the process's own default")
    max_message_bytes: int = Field(default=64 << 20, ge=1 << 20)
    linger_s: float = Field(
        default=0.0,
        ge=0,
        description="calls are served for so long after SIGTERM, though no longer asked for; "
        "0, or 3 and more",
    )
    drain_s: float = Field(default=20.0, ge=0, description="wait for running calls after that")
    metrics_port: int = Field(default=0, ge=-1, le=65535, description="0: own default; -1: none")
    health_port: int = Field(default=0, ge=-1, le=65535, description="0: own default; -1: none")
    health_silence_s: float = Field(
        default=10.0, ge=1, description="without a sign of the process; then it is not healthy"
    )
    limits: LimitSettings = LimitSettings()
    connection: ConnectionSettings = ConnectionSettings()

    @field_validator("linger_s")
    @classmethod
    def _leaves_time_for_connections(cls, value: float) -> float:
        if 0 < value < _SHORTEST_LINGER_S:
            raise ValueError(
                f"must be 0 or at least {_SHORTEST_LINGER_S:g}: connections last a third of it, "
                "and clients would do nothing but connect"
            )
        return value
