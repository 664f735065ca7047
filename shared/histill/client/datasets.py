"""Datasets, for programs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from histill.api.registry.v1 import dataset_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.api.registry.v1 import registry_service_pb2_grpc as rpc
from histill.client import transfers
from histill.client.calls import translated
from histill.client.models import announce
from histill.client.packing import pack
from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc

MAX_PIXEL_MM = 100.0
_KINDS = {
    "auto": dataset_pb2.LABEL_KIND_UNSPECIFIED,
    "semantic": dataset_pb2.LABEL_KIND_SEMANTIC,
    "instance": dataset_pb2.LABEL_KIND_INSTANCE,
}


class Datasets:
    """Push, find and remove datasets.

    Args:
        channel: Channel to the registry service.
        timeout_s: Longest wait for an answer; transfers may take ten times that.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.RegistryServiceStub(channel)
        self._timeout_s = timeout_s

    def push(
        self,
        folder: Path,
        *,
        name: str,
        classes: Sequence[str] = ("background", "object"),
        channels: int = 3,
        labels: Literal["auto", "semantic", "instance"] = "auto",
        description: str = "",
        pixel_size_mm: float = 0.0,
    ) -> dataset_pb2.Dataset:
        """Packs a folder of images and labels and registers it as a new version.

        Args:
            folder: ``train/`` and ``val/`` with ``images/`` and ``labels/`` in each, or
                ``images/`` and ``labels/`` alone, of which every fifth becomes ``val``.
                Training images without a label are for distillation; ``val`` needs labels.
            name: Name of the dataset.
            classes: Names; index 0 is the background.
            channels: 1 stores images as grey, 3 as RGB.
            labels: ``semantic`` where values are class indices, ``instance`` where they
                number objects; ``auto`` tells them apart where that is beyond doubt.
            description: Source, licence, how the labels were made.
            pixel_size_mm: Side of a pixel in millimetres, at most 100; 0 when not known.

        Raises:
            InvalidArgumentError: The folder is not like that; says which file and why.
        """
        # Before hours of packing, not after.
        if not 0 <= pixel_size_mm <= MAX_PIXEL_MM:
            raise InvalidArgumentError.of(
                "pixel_size_mm", f"is {pixel_size_mm}; 0 to {MAX_PIXEL_MM:g} millimetres are taken"
            )
        with tempfile.TemporaryDirectory(prefix="histill-pack-") as scratch:
            packed = pack(
                folder,
                Path(scratch),
                classes=len(classes),
                channels=channels,
                label_kind=_KINDS[labels],
            )
            header = pb.DatasetHeader(
                dataset_name=name,
                classes=classes,
                channels=channels,
                label_kind=packed.label_kind,
                splits=packed.splits,
                description=description,
                pixel_size_mm=pixel_size_mm,
                files=announce(packed.shards),
            )

            def parts() -> Iterator[pb.UploadDatasetRequest]:
                yield pb.UploadDatasetRequest(header=header)
                for chunk in transfers.chunks(packed.shards):
                    yield pb.UploadDatasetRequest(chunk=chunk)

            with translated():
                return self._stub.UploadDataset(parts(), timeout=10 * self._timeout_s).dataset

    def get(self, reference: str) -> dataset_pb2.Dataset:
        """One dataset.

        Raises:
            NotFoundError: There is none of that reference.
        """
        with translated():
            request = pb.GetDatasetRequest(reference=reference)
            return self._stub.GetDataset(request, timeout=self._timeout_s).dataset

    def list(self) -> Iterator[dataset_pb2.Dataset]:
        """Datasets, by name and newest first, fetched page by page."""
        request = pb.ListDatasetsRequest()
        while True:
            with translated():
                page = self._stub.ListDatasets(request, timeout=self._timeout_s)
            yield from page.datasets
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete(self, reference: str) -> None:
        """Removes one version, ``name@3``.

        Raises:
            NotFoundError: There is none.
        """
        with translated():
            request = pb.DeleteDatasetRequest(reference=reference)
            self._stub.DeleteDataset(request, timeout=self._timeout_s)
