"""Settings that more than one process has, and the check that none is misspelled.

Each process builds its own settings once, in ``__main__``, from ``HISTILL_*``
variables nested by ``__``, e.g. ``HISTILL_S3__ENDPOINT``.
"""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from histill.core.errors import SettingsError
from histill.core.names import NAME_PATTERN
from histill.core.projects import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "HISTILL_"
# Read by the command line, the SDK and the tests, never by a service.
OUTSIDE = ("HISTILL_DATA", "HISTILL_HOME")
# Every process's groups, so that one shell may hold the variables of several: each
# process checks the groups that it has, and leaves the others to their owners.
GROUPS = frozenset(
    {
        "AUTH",
        "CLIENT",
        "INFERENCE",
        "LOG",
        "REAPER",
        "REDIS",
        "S3",
        "SERVER",
        "TLS",
        "UPLOAD",
        "WEB",
        "WORKER",
    }
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class S3Settings(_Part):
    """The object store: any S3 server."""

    endpoint: str = Field(default="127.0.0.1:9000", description="host:port, without a scheme")
    access_key: str = "histill"
    secret_key: SecretStr = SecretStr("")
    bucket: str = Field(default="histill", min_length=3, max_length=63)
    region: str = "us-east-1"
    secure: bool = Field(default=False, description="use TLS")
    timeout_s: float = Field(default=10.0, gt=0, description="wait for a connection or a read")


class RedisSettings(_Part):
    """Queue, leases, live state and events: any server of the Redis protocol."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    timeout_s: float = Field(default=5.0, gt=0, description="wait for a connection or an answer")


class ApiKey(_Part):
    """One API key, stored as a hash.

    Attributes:
        id: Name of the holder, for logs.
        sha256: SHA-256 of the key in lower-case hexadecimal.
        role: ``viewer`` reads and segments, ``operator`` also submits and uploads,
            ``admin`` also deletes.
        project: Whose models, datasets and jobs the holder sees, and whose quotas count.
    """

    id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    role: Literal["viewer", "operator", "admin"]
    project: str = Field(default=DEFAULT, pattern=rf"^{NAME_PATTERN}$")


class AuthSettings(_Part):
    """Who may call. ``mode=none`` must be written out: the default refuses everyone."""

    mode: Literal["api_key", "none"] = "api_key"
    api_keys: tuple[ApiKey, ...] = ()


class TlsSettings(_Part):
    """PEM files; without a certificate the server listens in clear text."""

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


class LogSettings(_Part):
    """Structured logs: JSON unless standard error is a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool | None = None


class ServerSettings(_Part):
    """A gRPC server."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container listens to its network
    port: int = Field(default=0, ge=0, le=65535, description="0 takes the process's own default")
    max_message_bytes: int = Field(default=64 << 20, ge=1 << 20)
    drain_s: float = Field(default=20.0, ge=0, description="wait for running calls at SIGTERM")
    metrics_port: int = Field(default=0, ge=-1, le=65535, description="0: own default; -1: none")


class ProcessSettings(BaseSettings):
    """What every process has; each adds its own fields."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    s3: S3Settings = S3Settings()
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()


class ServiceSettings(ProcessSettings):
    """What every gRPC service has."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()


S = TypeVar("S", bound=BaseSettings)


def load(settings_type: type[S]) -> S:
    """Reads settings from the environment, once.

    Raises:
        SettingsError: A variable is unknown or its value is wrong; every one is named.
    """
    problems = unknown_variables(settings_type, os.environ)
    try:
        settings = settings_type()
    except ValidationError as exc:
        raise SettingsError("; ".join([*problems, told(exc, prefix=PREFIX)])) from exc
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def told(exc: ValidationError, *, prefix: str) -> str:
    """What is wrong, by variable, without the values: one of them may be a secret."""
    return "; ".join(
        f"{prefix}{'__'.join(str(step) for step in error['loc']).upper()}: {error['msg']}"
        for error in exc.errors(include_input=False, include_url=False)
    )


def variable_names(settings_type: type[BaseSettings]) -> set[str]:
    """Every ``HISTILL_*`` variable that the settings read."""

    def walk(model: type[BaseModel], prefix: str) -> set[str]:
        names: set[str] = set()
        for name, field in model.model_fields.items():
            variable = f"{prefix}{name}".upper()
            names.add(variable)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                names |= walk(field.annotation, f"{variable}__")
        return names

    return walk(settings_type, PREFIX)


def unknown_variables(
    settings_type: type[BaseSettings], environment: Mapping[str, str]
) -> list[str]:
    """One sentence for each ``HISTILL_*`` variable that nothing reads."""
    known = variable_names(settings_type)
    others = GROUPS - {name.removeprefix(PREFIX).partition("__")[0] for name in known}
    problems = []
    for name in sorted(environment):
        upper = name.upper()
        group, _, member = upper.removeprefix(PREFIX).partition("__")
        elsewhere = upper in OUTSIDE or (member and group in others)
        if upper.startswith(PREFIX) and upper not in known and not elsewhere:
            close = difflib.get_close_matches(upper, sorted(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            problems.append(f"{name} is not a setting{hint}")
    return problems
