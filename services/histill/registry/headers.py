"""Headers of datasets as manifests, with every field checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import InvalidArgumentError
from histill.core.manifests import DatasetManifest
from histill.core.messages import label_kind_of, violations
from histill.core.names import check_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from histill.api.registry.v1 import registry_service_pb2 as pb
    from histill.core.manifests import ArtifactFile


def dataset_manifest(
    header: pb.DatasetHeader, files: Sequence[ArtifactFile], *, now: datetime
) -> DatasetManifest:
    """A dataset's header as a manifest without version.

    Raises:
        InvalidArgumentError: Names each wrong field.
    """
    check_name(header.dataset_name, field="header.dataset_name")
    for split in ("train", "val"):
        if header.splits.get(split, 0) < 1:
            raise InvalidArgumentError.of(f"header.splits.{split}", "must count at least one image")
    if not math.isfinite(header.pixel_size_mm):
        raise InvalidArgumentError.of("header.pixel_size_mm", "must be a finite number")
    try:
        return DatasetManifest(
            name=header.dataset_name,
            version=0,
            classes=tuple(header.classes),
            channels=header.channels,
            label_kind=label_kind_of(header.label_kind, field="header.label_kind"),
            splits=dict(header.splits),
            pixel_size_mm=header.pixel_size_mm,
            description=header.description,
            create_time=now,
            files=tuple(files),
        )
    except ValidationError as exc:
        raise InvalidArgumentError(*violations(exc, "header")) from exc
