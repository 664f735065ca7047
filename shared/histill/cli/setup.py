"""``histill setup``: what an installation needs before its processes start.

Both commands may run again, also two at a time: what is there stays.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic_settings import BaseSettings, SettingsConfigDict

from histill.adapters.kubernetes_secret import ACCOUNT, KubernetesSecret
from histill.cli.output import JsonFlag, complain, print_json, say
from histill.core.errors import InvalidArgumentError, StorageRefusedError, UnavailableError
from histill.core.first_keys import Bundled, changes
from histill.core.settings import PREFIX, S3Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    no_args_is_help=True, help="What an installation needs before its first start; safe to repeat."
)
WaitS = Annotated[
    float, typer.Option(min=0, max=86_400, help="Seconds to wait for a server that is away.")
]
T = TypeVar("T")
_AGAIN_S = 1.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class BucketSettings(BaseSettings):
    """What ``histill setup bucket`` reads from ``HISTILL_*``: the object store, and no more."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    s3: S3Settings = S3Settings()


@app.command()
def secrets(
    secret: Annotated[str, typer.Option(help="Name of the Kubernetes Secret; it must be there.")],
    namespace: Annotated[str, typer.Option(help="Where it is; by default the pod's own.")] = "",
    bundled_redis: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Also keys of a Redis that is ours.")
    ] = "",
    bundled_s3: Annotated[
        bool, typer.Option("--bundled-s3", help="Also keys of an S3 server that is ours.")
    ] = False,
    guests: Annotated[
        bool, typer.Option("--guests", help="Also web-key, for a page that asks nobody to sign in.")
    ] = False,
    wait_s: WaitS = 120.0,
    account: Annotated[Path, typer.Option(help="Folder of the pod's service account.")] = ACCOUNT,
    json: JsonFlag = False,
) -> None:
    """Makes the keys that a Kubernetes Secret lacks; shows their names, and never a key."""
    if bundled_redis and not _HOST_PORT.fullmatch(bundled_redis):
        raise InvalidArgumentError.of("--bundled-redis", f"{bundled_redis!r} is no HOST:PORT")
    _check_name(secret, option="--secret")
    if namespace:
        _check_name(namespace, option="--namespace")
    where = KubernetesSecret.of_pod(secret, namespace=namespace, account=account)
    bundled = Bundled(redis=bundled_redis, s3=bundled_s3)
    written, there = _patiently(lambda: _fill(where, bundled, guests=guests), wait_s=wait_s)
    made = [key for key in written if key not in there]
    renewed = [key for key in written if key in there]
    if json:
        print_json(
            {"secret": secret, "namespace": where.namespace, "made": made, "renewed": renewed}
        )
        return
    name = f"Secret {secret} in {where.namespace}"
    if made:
        say(f"{name}: made {', '.join(made)}")
    if renewed:
        say(f"{name}: renewed {', '.join(renewed)}, since what it follows from has changed")
    if not written:
        say(f"{name}: every key is there; nothing was changed")


@app.command()
def bucket(wait_s: WaitS = 120.0, json: JsonFlag = False) -> None:
    """Waits for the S3 server of HISTILL_S3__* and makes the bucket unless it is there."""
    from histill.adapters.s3 import S3ObjectStore

    s3 = load(BucketSettings).s3
    made = _patiently(S3ObjectStore.connect(s3).ensure_bucket, wait_s=wait_s)
    if json:
        print_json({"bucket": s3.bucket, "endpoint": s3.endpoint, "made": made})
    else:
        say(f"bucket {s3.bucket} at {s3.endpoint} {'was made' if made else 'is there'}")


def _check_name(text: str, *, option: str) -> None:
    # It becomes a part of the URL.
    if not _NAME.fullmatch(text):
        raise InvalidArgumentError.of(option, f"{text!r} is no name that Kubernetes takes")


def _fill(
    secret: KubernetesSecret, bundled: Bundled, *, guests: bool
) -> tuple[list[str], set[str]]:
    """Names of the keys that were written, and of those that were there."""
    found = secret.read()
    missing = changes(found.values, bundled=bundled, guests=guests)
    if missing and not secret.write(missing, version=found.version):
        raise UnavailableError(f"the Secret {secret.name} was changed by somebody else meanwhile")
    return list(missing), {key for key, value in found.values.items() if value}


def _patiently(work: Callable[[], T], *, wait_s: float) -> T:
    """Does some work, again and again while what it needs is away.

    Raises:
        typer.Exit: It stayed away; that was told.
        StorageRefusedError: It is there and refuses.
    """
    deadline, told = time.monotonic() + wait_s, ""
    while True:
        try:
            return work()
        except StorageRefusedError as exc:
            # The application's own words for this kind of error send to the doctor, who is not
            # in at this time.
            complain(str(exc))
            raise typer.Exit(1) from exc
        except UnavailableError as exc:
            if time.monotonic() + _AGAIN_S > deadline:
                complain(f"{exc}; waited {wait_s:g} s, --wait-s waits longer")
                raise typer.Exit(1) from exc
            if str(exc) != told:
                told = str(exc)
                complain(f"{exc}; waiting")
            time.sleep(_AGAIN_S)
