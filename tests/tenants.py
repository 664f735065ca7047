"""Three projects on one registry and one inference service, each with keys of every role."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import numpy as np
from safetensors.numpy import save_file

from histill.adapters.s3 import S3ObjectStore
from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.client import Client, ClientSettings
from histill.core import catalog
from histill.core.names import Reference
from histill.core.projects import DEFAULT, scoped
from pictures import write_dataset
from services import service, settings_of
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from services import Service

ACME, ZENITH = "acme", "zenith"
PROJECTS = (ACME, ZENITH, DEFAULT)
ROLES = ("viewer", "operator", "admin")
# What each has besides ``nuclei``; zenith has nothing that the others have not.
SECRETS = {ACME: "secret", DEFAULT: "unseen"}
BUCKET = "projects"
# The class that each project's ``nuclei`` gives a dark pixel.
DARK_IS = {ACME: 1, ZENITH: 0, DEFAULT: 2}
_CLASSES = ("background", "nuclei", "stroma")


def key_of(project: str, role: str = "admin") -> str:
    """The key of a project's holder of a role."""
    return f"key-{project}-{role}"


def keys() -> str:
    """The setting with the keys of all."""
    return json.dumps(
        [
            {
                "id": f"{project}-{role}",
                "sha256": hashlib.sha256(key_of(project, role).encode()).hexdigest(),
                "role": role,
                "project": project,
            }
            for project in PROJECTS
            for role in ROLES
        ]
    )


@dataclass(frozen=True)
class Tenancy:
    """The running services, and their store.

    Attributes:
        store: All of it.
        channels: By process.
    """

    registry: Service
    inference: Service
    store: S3ObjectStore
    channels: dict[str, grpc.Channel]

    def client(self, project: str, role: str = "admin") -> Client:
        """The SDK, with a project's key."""
        return Client(ClientSettings.model_validate(self.endpoints(project, role)))

    def endpoints(self, project: str, role: str = "admin") -> dict[str, str]:
        """What a client's settings are."""
        return {
            "registry": f"127.0.0.1:{self.registry.port}",
            "inference": f"127.0.0.1:{self.inference.port}",
            "api_key": key_of(project, role),
            "timeout_s": "20",
        }

    def kept(self, *projects: str) -> dict[str, bytes]:
        """Every object of some projects."""
        return {
            f"{project}:{key}": scoped(self.store, project).get(key)
            for project in projects
            for key in scoped(self.store, project).list("")
            if not key.startswith(("projects/", "audit/", "access/"))
        }


@contextmanager
def tenancy(s3: S3, valkey: Valkey, folder: Path) -> Iterator[Tenancy]:
    """Starts both services over a bucket with models and datasets of every project."""
    store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": BUCKET}))
    store.ensure_bucket()
    _publish(store, folder)
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_S3__BUCKET": BUCKET,
        "HISTILL_AUTH__API_KEYS": keys(),
    }
    batches = {
        "HISTILL_INFERENCE__PRELOAD": '["acme/nuclei@best"]',
        "HISTILL_INFERENCE__BATCHING__MAX_BATCH": "4",
        "HISTILL_INFERENCE__POLL_S": "0.2",
        "HISTILL_INFERENCE__MAX_QUEUE": "64",
    }
    with (
        service("registry", folder, variables) as registry,
        service("inference", folder, variables | batches) as inference,
    ):
        registry.wait()
        inference.wait()
        channels = {
            each.name: grpc.insecure_channel(f"127.0.0.1:{each.port}")
            for each in (registry, inference)
        }
        there = Tenancy(registry, inference, store, channels)
        for project, name in SECRETS.items():
            with there.client(project) as client:
                client.datasets.push(write_dataset(folder / f"data-{project}"), name=name)
        yield there
        for channel in channels.values():
            channel.close()


def _publish(store: S3ObjectStore, folder: Path) -> None:
    """Students; not one has a byte that another project's has not somewhere, but one."""
    for project, dark_is in DARK_IS.items():
        mine = scoped(store, project)
        data = student(dark_is=dark_is, classes=3)
        made = publish(mine, data, folder, like=manifest(data, classes=_CLASSES))
        assert made.reference == "nuclei@1"
        catalog.set_alias(mine, Reference("nuclei", version=1), "best")
        if name := SECRETS.get(project):
            for _ in range(2):
                publish(mine, data, folder, like=manifest(data, name=name, classes=_CLASSES))
            catalog.set_alias(mine, Reference(name, version=1), "chosen")


def weights(folder: Path) -> tuple[Path, pb.ModelHeader]:
    """A teacher that can be pushed, but for its name."""
    path = folder / "weights.safetensors"
    save_file({"w": np.arange(10, dtype=np.float32)}, path)
    header = pb.ModelHeader(
        role=model_pb2.MODEL_ROLE_TEACHER,
        channels=3,
        classes=["background", "object"],
        mean=[0.5] * 3,
        std=[0.2] * 3,
    )
    return path, header
