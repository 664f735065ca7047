"""Whose model is meant: two projects may use one name, and never see each other's."""

from __future__ import annotations

from dataclasses import dataclass

from histill.core.names import parse_reference
from histill.core.projects import DEFAULT, check_project


@dataclass(frozen=True)
class Owned:
    """A reference within a project: the key of everything that is kept of a model.

    Attributes:
        project: Whose it is.
        reference: ``name``, ``name@3`` or ``name@alias``; not checked.
    """

    project: str
    reference: str

    @property
    def name(self) -> str:
        """The model's, without version or alias."""
        return self.reference.partition("@")[0]

    def __str__(self) -> str:
        """As settings and logs have it: the project ``default`` is not said."""
        return self.reference if self.project == DEFAULT else f"{self.project}/{self.reference}"


def parse_owned(text: str, *, field: str) -> Owned:
    """Parses a reference that may begin with a project, ``project/name@alias``.

    Args:
        text: The reference; without a project it is one of ``default``.
        field: Path of the field it came from, for the error.

    Raises:
        InvalidArgumentError: ``text`` is no such reference.
    """
    project, slash, reference = text.rpartition("/")
    parse_reference(reference, field=field)
    return Owned(check_project(project, field=field) if slash else DEFAULT, reference)
