"""Models, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.api.registry.v1 import registry_service_pb2_grpc as rpc
from histill.client import transfers
from histill.client.calls import translated
from histill.core.catalog import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import grpc


class Models:
    """Push, find, fetch, alias and remove models.

    Args:
        channel: Channel to the registry service.
        timeout_s: Longest wait for an answer; transfers may take ten times that.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.RegistryServiceStub(channel)
        self._timeout_s = timeout_s

    def push(self, header: pb.ModelHeader, files: Sequence[Path]) -> model_pb2.Model:
        """Registers a new version.

        Args:
            header: What the model is; its ``files`` are filled in here.
            files: ``weights.safetensors`` where the header has a network, or ``model.ts``, a
                TorchScript program, where it has none; and whatever belongs to it.

        Raises:
            InvalidArgumentError: The header or a file is wrong; names the field.
            CorruptArtifactError: A file changed while it was sent.
        """
        sent = pb.ModelHeader()
        sent.CopyFrom(header)
        del sent.files[:]
        sent.files.extend(announce(files))

        def parts() -> Iterator[pb.UploadModelRequest]:
            yield pb.UploadModelRequest(header=sent)
            for chunk in transfers.chunks(files):
                yield pb.UploadModelRequest(chunk=chunk)

        with translated():
            return self._stub.UploadModel(parts(), timeout=10 * self._timeout_s).model

    def download(
        self, reference: str, folder: Path, *, paths: Sequence[str] = ()
    ) -> tuple[model_pb2.Model, list[Path]]:
        """Fetches a version's files into a folder.

        Args:
            reference: ``name``, ``name@3`` or ``name@alias``.
            folder: Made when missing.
            paths: Only these files; empty means all.

        Raises:
            NotFoundError: There is no such model or file.
            CorruptArtifactError: A file arrived damaged; none is left.
        """
        request = pb.DownloadModelRequest(reference=reference, paths=paths)
        with translated():
            answers = self._stub.DownloadModel(request, timeout=10 * self._timeout_s)
            model = next(answers).model
            announced = [file for file in model.files if not paths or file.path in paths]
            return model, transfers.save((part.chunk for part in answers), announced, folder)

    def get(self, reference: str) -> model_pb2.Model:
        """One model.

        Raises:
            NotFoundError: There is none of that reference.
        """
        with translated():
            request = pb.GetModelRequest(reference=reference)
            return self._stub.GetModel(request, timeout=self._timeout_s).model

    def list(self, *, name: str = "") -> Iterator[model_pb2.Model]:
        """Models, by name and newest first, fetched page by page."""
        request = pb.ListModelsRequest(model_name=name)
        while True:
            with translated():
                page = self._stub.ListModels(request, timeout=self._timeout_s)
            yield from page.models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def alias(self, reference: str, alias: str) -> model_pb2.Model:
        """Points an alias at a version; returns that version.

        Raises:
            NotFoundError: There is no such version.
        """
        request = pb.SetAliasRequest(reference=reference, alias=alias)
        with translated():
            return self._stub.SetAlias(request, timeout=self._timeout_s).model

    def unalias(self, name: str, alias: str) -> None:
        """Removes an alias.

        Raises:
            NotFoundError: There is none.
        """
        request = pb.DeleteAliasRequest(model_name=name, alias=alias)
        with translated():
            self._stub.DeleteAlias(request, timeout=self._timeout_s)

    def delete(self, reference: str) -> None:
        """Removes one version, ``name@3``.

        Raises:
            NotFoundError: There is none.
            FailedPreconditionError: An alias points at it.
        """
        with translated():
            request = pb.DeleteModelRequest(reference=reference)
            self._stub.DeleteModel(request, timeout=self._timeout_s)


def announce(files: Sequence[Path]) -> list[model_pb2.ArtifactFile]:
    """Name, size and digest of each file, as headers carry them."""
    found = [file_of(path) for path in files]
    return [
        model_pb2.ArtifactFile(path=file.path, size_bytes=file.size, sha256=file.sha256)
        for file in found
    ]
