"""The checks of ``histill doctor``: one function a question, each answered in a sentence."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from histill.client import Client
from histill.client.client import open_channel
from histill.client.settings import load_client
from histill.core.errors import (
    HistillError,
    PermissionDeniedError,
    SettingsError,
    UnauthenticatedError,
    UnavailableError,
)
from histill.core.settings import PREFIX, ProcessSettings, load
from histill.rpc.probe import is_serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.client.settings import ClientSettings

MIN_FREE_BYTES = 2 << 30
_PROBE_S = 3.0


@dataclass(frozen=True)
class Check:
    """One answer: what was looked at, whether it is well, and what helps if not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def every_check(home: Path) -> Iterator[Check]:
    """Runs every check that applies here.

    Args:
        home: Folder of embedded mode.
    """
    if not _remote():
        yield folder(home)
        yield disk(home)
    yield from system(home)
    if any(name.startswith((f"{PREFIX}S3__", f"{PREFIX}REDIS__")) for name in os.environ):
        yield from backends()


def system(home: Path) -> Iterator[Check]:
    """Does the system that clients talk to from here answer?

    Args:
        home: Folder of embedded mode.
    """
    try:
        settings = load_client(home)
    except SettingsError as exc:
        yield Check("client settings", False, str(exc), "correct the variable or remove the file")
        return
    if not _remote() and not _runs_here(home):
        yield ports()
        yield Check(
            "system", False, "nothing is running that was started from this folder",
            "start it with histill up, or set HISTILL_CLIENT__JOBS, …__REGISTRY and …__INFERENCE",
        )  # fmt: skip
        return
    for name in ("jobs", "registry", "inference"):
        yield service(name, getattr(settings, name), settings)
    yield api_key(settings)


def _runs_here(home: Path) -> bool:
    try:
        from histill.embedded.stack import in_use
    except ModuleNotFoundError:  # without the extra that it needs it cannot run
        return False
    return in_use(home)


def _remote() -> bool:
    """Whether the environment names services elsewhere."""
    return any(
        f"{PREFIX}CLIENT__{name}" in os.environ for name in ("JOBS", "REGISTRY", "INFERENCE")
    )


def folder(home: Path) -> Check:
    """Can the folder be written?"""
    nearest = next(path for path in (home, *home.parents) if path.exists())
    ok = nearest.is_dir() and os.access(nearest, os.W_OK)
    detail = str(home) if ok else f"{nearest} is no folder that can be written"
    return Check("folder", ok, detail, "choose another with --home or HISTILL_HOME")


def disk(home: Path) -> Check:
    """Is there room for data, checkpoints and scratch?"""
    nearest = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    return Check(
        "disk",
        free >= MIN_FREE_BYTES,
        f"{free / 1e9:.1f} GB free under {nearest}",
        f"free at least {MIN_FREE_BYTES / 1e9:.1f} GB, or choose another folder with --home",
    )


def ports() -> Check:
    """Could embedded mode take its ports?"""
    from histill.embedded.layout import Ports

    taken = Ports().taken()
    if not taken:
        return Check("ports", True, "all free")
    which = ", ".join(f"{port} ({name})" for name, port in taken.items())
    return Check("ports", False, f"taken: {which}", "stop what listens there, or use --free-ports")


def service(name: str, target: str, settings: ClientSettings) -> Check:
    """Does a service answer, and does it say that it is ready?"""
    try:
        opened = open_channel(target, settings)
    except OSError as exc:
        remedy = "correct HISTILL_CLIENT__CA_FILE, __CERTIFICATE and __KEY"
        return Check(name, False, f"a TLS file cannot be read: {exc}", remedy)
    with opened as channel:
        try:
            ready = is_serving(channel, timeout_s=_PROBE_S)
        except grpc.RpcError as exc:
            code = exc.code().name if isinstance(exc, grpc.Call) else str(exc)
            remedy = f"is it running? its address is HISTILL_CLIENT__{name.upper()}"
            return Check(name, False, f"{target} does not answer ({code})", remedy)
    detail = f"{target} is {'ready' if ready else 'up but not ready'}"
    return Check(name, ready, detail, "its log says which of Redis and S3 does not answer")


def api_key(settings: ClientSettings) -> Check:
    """Is our key taken?"""
    try:
        with Client(settings.model_copy(update={"timeout_s": _PROBE_S})) as client:
            next(iter(client.jobs.list()), None)
    except (UnauthenticatedError, PermissionDeniedError) as exc:
        return Check(
            "API key", False, str(exc), "set HISTILL_CLIENT__API_KEY to a key of this system"
        )
    except UnavailableError as exc:
        return Check("API key", False, f"cannot be checked: {exc}", "first make the services ready")
    except HistillError as exc:
        return Check("API key", False, str(exc), "the log of the jobs service says more")
    return Check("API key", True, "accepted")


def backends() -> Iterator[Check]:
    """Do the Redis and S3 servers that the environment names answer, with these keys?"""
    from histill.adapters.redis_client import connect
    from histill.adapters.redis_jobs import RedisJobIndex
    from histill.adapters.s3 import S3ObjectStore

    try:
        settings = load(ProcessSettings)
    except SettingsError as exc:
        yield Check("settings", False, str(exc), "correct or remove the variable")
        return
    try:
        RedisJobIndex(connect(settings.redis)).ping()
        yield Check("Redis", True, "answers")
    except HistillError as exc:
        yield Check("Redis", False, str(exc), "start it, or correct HISTILL_REDIS__URL")
    try:
        S3ObjectStore.connect(settings.s3).ping()
        yield Check("S3", True, f"answers at {settings.s3.endpoint}")
    except HistillError as exc:
        yield Check("S3", False, str(exc), "start it, or correct the HISTILL_S3__* variables")
