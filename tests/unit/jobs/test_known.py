"""What is remembered of models and datasets, and for how long."""

from __future__ import annotations

import pytest

import manifests
from fakes import MemoryObjects, MemoryVersions
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import NotFoundError
from histill.core.names import Reference
from histill.core.projects import scoped
from histill.jobs import known as module
from histill.jobs.known import Known


def test_an_exact_version_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is forgotten: then a version that was deleted is missed."""
    objects = MemoryObjects()
    made = catalog.publish(objects, MemoryVersions(), MODELS, manifests.model(), [])
    known = Known(objects)
    assert known.find("default", MODELS, made.reference) == made
    catalog.delete(objects, MODELS, Reference(made.name, made.version))
    assert known.find("default", MODELS, made.reference) == made
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    with pytest.raises(NotFoundError):
        known.find("default", MODELS, made.reference)


def test_the_latest_version_is_never_remembered() -> None:
    """A name without a version means whatever is newest now."""
    objects, versions = MemoryObjects(), MemoryVersions()
    known = Known(objects)
    for version in (1, 2):
        made = catalog.publish(objects, versions, MODELS, manifests.model(), [])
        assert known.find("default", MODELS, made.name).version == version


def test_what_one_project_knows_another_does_not() -> None:
    """A remembered version answers its own project alone."""
    objects = MemoryObjects()
    own = scoped(objects, "mine")
    made = catalog.publish(own, MemoryVersions(), MODELS, manifests.model(), [])
    known = Known(objects)
    assert known.find("mine", MODELS, made.reference) == made
    with pytest.raises(NotFoundError):
        known.find("theirs", MODELS, made.reference)
