"""What a removal is asked to remove, and the note that it leaves until it is done."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from histill.core.errors import InvalidArgumentError
from histill.core.names import NAME_PATTERN, parse_job_name, parse_reference

if TYPE_CHECKING:
    from collections.abc import Collection

FOLDER = "purges/"
_RESOURCE = re.compile(rf"datasets/({NAME_PATTERN})/versions/([1-9][0-9]{{0,8}})")


@dataclass(frozen=True)
class Subject:
    """What is to be removed.

    Attributes:
        job_id: Of the job, or empty.
        dataset: ``name@version`` of the dataset, or empty.
    """

    job_id: str = ""
    dataset: str = ""

    @property
    def name(self) -> str:
        """As in the API."""
        return self.dataset or f"jobs/{self.job_id}"

    @property
    def note_key(self) -> str:
        """Key of the note that a removal leaves until it is done."""
        return f"{FOLDER}{hashlib.sha256(self.name.encode()).hexdigest()[:32]}.json"


class Note(BaseModel):
    """What a removal had found before it began, so that one which broke off is gone on with.

    Attributes:
        jobs: Ids.
        models: ``name@version`` of what goes, or with ``keep_models`` stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    jobs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def with_more(self, jobs: Collection[str], models: Collection[str]) -> Note:
        """This and more, each once."""
        return Note(
            jobs=tuple(sorted({*self.jobs, *jobs})), models=tuple(sorted({*self.models, *models}))
        )


def subject_of(text: str) -> Subject:
    """The subject that a name names.

    Raises:
        InvalidArgumentError: It is no job and no version of a dataset; names ``name``.
    """
    if found := _RESOURCE.fullmatch(text):
        return Subject(dataset=f"{found[1]}@{found[2]}")
    if text.startswith("jobs/"):
        return Subject(job_id=parse_job_name(text, field="name"))
    reference = parse_reference(text, field="name", aliases=False)
    if reference.version is None:
        words = f"{text!r} must name one version, e.g. {text}@3; or write jobs/ID"
        raise InvalidArgumentError.of("name", words)
    return Subject(dataset=text)
