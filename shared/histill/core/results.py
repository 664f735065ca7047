"""A job's result on its way into the registry, and what a lost worker left of it.

An attempt notes in the job's record which version it is about to write. Whoever takes the
job over finds there either the whole version, which then is the result, or parts of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import CorruptArtifactError, NotFoundError
from histill.core.names import parse_reference
from histill.core.projects import scoped

if TYPE_CHECKING:
    from histill.core.jobs import Job
    from histill.core.manifests import ModelManifest
    from histill.core.ports import ObjectStore


def result_name(reference: str) -> str:
    """Resource name of a model ``name@version``."""
    name, _, version = reference.partition("@")
    return f"models/{name}/versions/{version}"


def published(objects: ObjectStore, job: Job) -> ModelManifest | None:
    """The version that an attempt noted, if it is there and whole."""
    if not job.publishing:
        return None
    own = scoped(objects, job.project)
    try:
        found = catalog.find(own, MODELS, job.publishing)
    except (NotFoundError, CorruptArtifactError):
        return None
    # A manifest alone is what a sleeper wrote whose files were removed meanwhile.
    prefix = MODELS.prefix(found.name, found.version)
    stored = {key.removeprefix(prefix): size for key, size in own.sizes(prefix)}
    whole = all(stored.get(file.path) == file.size for file in found.files)
    return found if whole and found.job == job.name else None


def discard(objects: ObjectStore, job: Job) -> None:
    """Removes what an attempt stored of a version that is not the job's result."""
    if not job.publishing or job.result_model == result_name(job.publishing):
        return
    reference = parse_reference(job.publishing, field="publishing")
    if reference.version is None:
        return
    own = scoped(objects, job.project)
    try:
        if catalog.read_manifest(own, MODELS, reference.name, reference.version).job != job.name:
            return  # another's: its number was free when ours was dropped
    except (NotFoundError, CorruptArtifactError):
        pass
    own.delete(MODELS.manifest_key(reference.name, reference.version))
    own.delete_prefix(MODELS.prefix(reference.name, reference.version))
