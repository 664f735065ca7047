"""Settings that more than one process has, and the check that none is misspelled.

Each process builds its own settings once, in ``__main__``, from ``HISTILL_*``
variables nested by ``__``, e.g. ``HISTILL_S3__ENDPOINT``.
"""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from histill.core.audit_settings import AuditSettings
from histill.core.errors import SettingsError
from histill.core.service_settings import AuthSettings, Part, ServerSettings, TlsSettings
from histill.core.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "HISTILL_"
# Read by the command line, the SDK and the tests, never by a service.
OUTSIDE = ("HISTILL_DATA", "HISTILL_FUZZ_EXAMPLES", "HISTILL_HOME")
# Every process's groups, so that one shell may hold the variables of several: each
# process checks the groups that it has, and leaves the others to their owners.
GROUPS = frozenset(
    {
        "AUDIT",
        "AUTH",
        "CLIENT",
        "INFERENCE",
        "JOBS",
        "LOG",
        "PURGE",
        "REAPER",
        "REDIS",
        "S3",
        "SERVER",
        "SIGNING",
        "SWEEPER",
        "TLS",
        "TRACING",
        "UPLOAD",
        "WEB",
        "WORKER",
    }
)


class S3Settings(Part):
    """The object store: any S3 server."""

    endpoint: str = Field(default="127.0.0.1:9000", description="host:port, without a scheme")
    access_key: str = "histill"
    secret_key: SecretStr = SecretStr("")
    bucket: str = Field(default="histill", min_length=3, max_length=63)
    region: str = "us-east-1"
    secure: bool = Field(default=False, description="use TLS")
    ca_file: str = Field(default="", description="PEM of its authority; empty: certifi's")
    create_bucket: bool = Field(default=True, description="make the bucket where there is none")
    timeout_s: float = Field(default=10.0, gt=0, description="wait for a connection or a read")


class RedisSettings(Part):
    """Queue, leases, live state and events: any server of the Redis protocol."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    ca_file: str = Field(
        default="", description="PEM of its authority, for rediss://; empty: certifi's"
    )
    timeout_s: float = Field(default=5.0, gt=0, description="wait for a connection or an answer")


class LogSettings(Part):
    """Structured logs: JSON unless standard error is a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool | None = None


class ProcessSettings(BaseSettings):
    """What every process has; each adds its own fields."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    s3: S3Settings = S3Settings()
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()


class ServiceSettings(ProcessSettings):
    """What every gRPC service has."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()
    audit: AuditSettings = AuditSettings()


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
    except UnreadableError as exc:
        raise SettingsError("; ".join([*problems, _not_json(exc, os.environ)])) from exc
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def _not_json(exc: UnreadableError, environment: Mapping[str, str]) -> str:
    """Which variable holds a list or a group that is not written as JSON; not its value."""
    value = getattr(exc.__cause__, "doc", None)
    named = [n for n, v in environment.items() if v == value and n.upper().startswith(PREFIX)]
    return f'{" or ".join(sorted(named)) or exc}: must be JSON, e.g. ["a", "b"] for a list'


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
