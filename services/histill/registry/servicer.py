"""The RPCs of the registry service: requests in, catalog calls, messages out."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.api.registry.v1 import registry_service_pb2_grpc as rpc
from histill.core import catalog, messages
from histill.core.catalog import DATASETS, MODELS, M, Shelf
from histill.core.errors import InvalidArgumentError, NotFoundError
from histill.core.headers import model_manifest
from histill.core.manifests import INT8, ONNX, STATISTICS, TORCHSCRIPT, WEIGHTS
from histill.core.names import Reference, check_alias, check_name, parse_reference
from histill.core.onnx_form import check_onnx
from histill.core.projects import DEFAULT
from histill.core.torchscript import check_program
from histill.registry import headers
from histill.registry.paging import page
from histill.registry.receiving import Scratch, announced_files, receive
from histill.registry.shards import check_shards
from histill.registry.weights import count_parameters
from histill.rpc.interceptor import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import grpc

    from histill.core.clock import Clock
    from histill.core.manifests import ArtifactFile, ModelManifest
    from histill.core.ports import ObjectStore, VersionCounter
    from histill.core.signing import Signer
    from histill.registry.settings import UploadPart

    Context = grpc.aio.ServicerContext[Any, Any]

# ruff: noqa: N802 - the API's names


@dataclass(frozen=True)
class RegistryServicer(rpc.RegistryServiceServicer):
    """Serves ``RegistryService``; everything that blocks runs in threads.

    Attributes:
        store_of: A project's part of the object store: there is no other way to one.
        numbers_of: A project's version numbers.
        upload: What an upload may be.
        clock: Says when something was made.
        signer: Signs what is published; ``None`` leaves it unsigned.
    """

    store_of: Callable[[str], ObjectStore]
    numbers_of: Callable[[str], VersionCounter]
    upload: UploadPart
    clock: Clock
    signer: Signer | None = None
    _room: Scratch = field(default_factory=Scratch)

    async def UploadModel(
        self, request_iterator: AsyncIterator[pb.UploadModelRequest], context: Context
    ) -> pb.UploadModelResponse:
        """Receives, checks and publishes a model."""
        del context
        header = (await _first(request_iterator)).header
        files = announced_files(header.files, limits=self.upload)
        manifest = model_manifest(header, files, now=self.clock())
        with self._scratch() as folder:
            chunks = (request.chunk async for request in request_iterator)
            paths = await self._receive(chunks, files, folder)
            parameters = await asyncio.to_thread(_parameters, folder, manifest)
            manifest = manifest.model_copy(update={"parameters": parameters})
            published = await asyncio.to_thread(
                self._publish, current_caller().project, MODELS, manifest, paths
            )
        return pb.UploadModelResponse(model=messages.model_message(published, {}))

    async def UploadDataset(
        self, request_iterator: AsyncIterator[pb.UploadDatasetRequest], context: Context
    ) -> pb.UploadDatasetResponse:
        """Receives, checks and publishes a dataset."""
        del context
        header = (await _first(request_iterator)).header
        files = announced_files(header.files, limits=self.upload)
        manifest = headers.dataset_manifest(header, files, now=self.clock())
        with self._scratch() as folder:
            chunks = (request.chunk async for request in request_iterator)
            paths = await self._receive(chunks, files, folder)
            await asyncio.to_thread(
                check_shards,
                paths,
                splits=manifest.splits,
                channels=manifest.channels,
                max_pixels=self.upload.max_pixels,
            )
            published = await asyncio.to_thread(
                self._publish, current_caller().project, DATASETS, manifest, paths
            )
        return pb.UploadDatasetResponse(dataset=messages.dataset_message(published))

    def _objects(self) -> ObjectStore:
        """What the caller may know of; the same in the threads that its call starts."""
        return self.store_of(current_caller().project)

    def _publish(self, project: str, shelf: Shelf[M], manifest: M, paths: Sequence[Path]) -> M:
        return catalog.publish(
            self.store_of(project),
            self.numbers_of(project),
            shelf,
            manifest,
            paths,
            signer=self.signer,
            project=project,
        )

    async def _receive(
        self, chunks: AsyncIterator[pb.FileChunk], files: Sequence[ArtifactFile], folder: Path
    ) -> list[Path]:
        return await receive(
            chunks,
            files,
            folder,
            scratch=self._room,
            idle_s=self.upload.idle_s,
            bytes_per_s=self.upload.min_bytes_per_s,
        )

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        parent = self.upload.scratch or None
        with tempfile.TemporaryDirectory(prefix="histill-upload-", dir=parent) as folder:
            yield Path(folder)

    async def DownloadModel(
        self, request: pb.DownloadModelRequest, context: Context
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        """Sends a model's files in chunks, in the manifest's order."""
        del context
        manifest = await asyncio.to_thread(self._find_model, request.reference)
        unknown = set(request.paths) - {file.path for file in manifest.files}
        if unknown:
            raise NotFoundError(f"{manifest.reference} has no file {', '.join(sorted(unknown))}")
        yield pb.DownloadModelResponse(model=await asyncio.to_thread(self._message, manifest))
        for file in manifest.files:
            if request.paths and file.path not in request.paths:
                continue
            parts = catalog.read_file(self._objects(), MODELS, manifest, file)
            while (data := await asyncio.to_thread(next, parts, None)) is not None:
                chunk = pb.FileChunk(path=file.path, data=data)
                yield pb.DownloadModelResponse(chunk=chunk)

    def _find_model(self, reference: str) -> ModelManifest:
        return catalog.find(self._objects(), MODELS, parse_reference(reference, field="reference"))

    def _message(self, manifest: ModelManifest) -> Any:
        return messages.model_message(manifest, catalog.aliases(self._objects(), manifest.name))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One model."""
        del context
        manifest = await asyncio.to_thread(self._find_model, request.reference)
        return pb.GetModelResponse(model=await asyncio.to_thread(self._message, manifest))

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """A page of models."""
        del context
        if request.model_name:
            check_name(request.model_name, field="model_name")
        return await asyncio.to_thread(self._list_models, request)

    def _list_models(self, request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        every = catalog.iterate(self._objects(), MODELS, name=request.model_name)
        found, token = page(every, size=request.page_size, token=request.page_token)
        aliases = {m.name: catalog.aliases(self._objects(), m.name) for m in found}
        models = [messages.model_message(m, aliases[m.name]) for m in found]
        return pb.ListModelsResponse(models=models, next_page_token=token)

    async def DeleteModel(
        self, request: pb.DeleteModelRequest, context: Context
    ) -> pb.DeleteModelResponse:
        """Removes one version."""
        del context
        reference = _exact(request.reference)
        await asyncio.to_thread(catalog.delete, self._objects(), MODELS, reference)
        return pb.DeleteModelResponse()

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        """Points an alias at a version."""
        del context
        reference = parse_reference(request.reference, field="reference")
        alias = check_alias(request.alias, field="alias")
        manifest = await asyncio.to_thread(catalog.set_alias, self._objects(), reference, alias)
        return pb.SetAliasResponse(model=await asyncio.to_thread(self._message, manifest))

    async def DeleteAlias(
        self, request: pb.DeleteAliasRequest, context: Context
    ) -> pb.DeleteAliasResponse:
        """Removes an alias."""
        del context
        name = check_name(request.model_name, field="model_name")
        alias = check_alias(request.alias, field="alias")
        await asyncio.to_thread(catalog.delete_alias, self._objects(), name, alias)
        return pb.DeleteAliasResponse()

    async def GetDataset(
        self, request: pb.GetDatasetRequest, context: Context
    ) -> pb.GetDatasetResponse:
        """One dataset."""
        del context
        reference = parse_reference(request.reference, field="reference", aliases=False)
        manifest = await asyncio.to_thread(catalog.find, self._objects(), DATASETS, reference)
        return pb.GetDatasetResponse(dataset=messages.dataset_message(manifest))

    async def ListDatasets(
        self, request: pb.ListDatasetsRequest, context: Context
    ) -> pb.ListDatasetsResponse:
        """A page of datasets."""
        del context
        return await asyncio.to_thread(self._list_datasets, request)

    def _list_datasets(self, request: pb.ListDatasetsRequest) -> pb.ListDatasetsResponse:
        every = catalog.iterate(self._objects(), DATASETS)
        found, token = page(every, size=request.page_size, token=request.page_token)
        datasets = [messages.dataset_message(manifest) for manifest in found]
        return pb.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: Context
    ) -> pb.DeleteDatasetResponse:
        """Removes one version of a dataset."""
        del context
        reference = _exact(request.reference)
        await asyncio.to_thread(catalog.delete, self._objects(), DATASETS, reference)
        return pb.DeleteDatasetResponse()

    async def ready(self) -> None:
        """Returns when S3 and Redis answer."""
        await asyncio.to_thread(self.store_of(DEFAULT).ping)
        await asyncio.to_thread(self.numbers_of(DEFAULT).ping)


def _parameters(folder: Path, manifest: ModelManifest) -> int:
    """Checks the files, and counts the weights; those of a program are not looked into."""
    if (folder / STATISTICS).exists():
        count_parameters(folder / STATISTICS, field="header.files")
    for name in (ONNX, INT8):
        if (folder / name).exists():
            check_onnx(folder / name, field="header.files")
    if manifest.network is None:
        check_program(folder / TORCHSCRIPT, field="header.files")
        return 0
    return count_parameters(folder / WEIGHTS, field="header.files")


async def _first(requests: AsyncIterator[Any]) -> Any:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgumentError.of("header", "must come first")
    return first


def _exact(text: str) -> Reference:
    reference = parse_reference(text, field="reference", aliases=False)
    if reference.version is None:
        raise InvalidArgumentError.of("reference", f"must name the version, e.g. {text}@3")
    return reference
