"""Models and datasets, for the page: those that are served, and what the registry has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2 as segmentation_pb
from histill.core.errors import InvalidArgumentError
from histill.core.json_form import as_dict
from histill.ml.colors import color
from histill.web.bodies import json_object

if TYPE_CHECKING:
    from starlette.requests import Request

    from histill.web.backends import Service
    from histill.web.credentials import Credentials

PAGE_SIZE = 50
_READ_S = 20.0
_MOST_BYTES = 4 << 10


class Models:
    """The routes of ``/api/served``, ``/api/models`` and ``/api/datasets``.

    Args:
        registry: Keeps them.
        inference: Serves some.
        credentials: Whose calls they are.
    """

    def __init__(self, registry: Service, inference: Service, credentials: Credentials) -> None:
        self._registry = registry
        self._inference = inference
        self._credentials = credentials

    async def served(self, request: Request) -> Response:
        """The models that can be asked for, with the colours of their classes."""
        found = await self._read(
            self._inference, "ListModels", segmentation_pb.ListModelsRequest(), request
        )
        models = [as_dict(each) for each in found.models]
        for each in models:
            each["classes"] = [
                {"index": index, "name": name, "color": color(index)}
                for index, name in enumerate(each["classes"])
            ]
        return JSONResponse({"models": models})

    async def list(self, request: Request) -> Response:
        """A page of the registry's models."""
        token = request.query_params.get("page_token", "")
        message = pb.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
        found = await self._read(self._registry, "ListModels", message, request)
        return JSONResponse(as_dict(found))

    async def show(self, request: Request) -> Response:
        """What the registry knows of one model, such as its measures."""
        message = pb.GetModelRequest(reference=request.path_params["reference"])
        return JSONResponse(as_dict(await self._read(self._registry, "GetModel", message, request)))

    async def point(self, request: Request) -> Response:
        """Points an alias at a version: ``{"reference": "name@3"}``."""
        credential = self._credentials.of(request)
        reference = (await json_object(request, most=_MOST_BYTES)).get("reference")
        name = request.path_params["name"]
        if not (
            isinstance(reference, str)
            and reference.isascii()  # JSON may hold halves of letters, which no message takes
            and reference.partition("@")[0] == name
        ):
            raise InvalidArgumentError.of("reference", f"must be a version such as {name}@1")
        message = pb.SetAliasRequest(reference=reference, alias=request.path_params["alias"])
        return JSONResponse(as_dict(await self._registry.ask("SetAlias", message, credential)))

    async def unpoint(self, request: Request) -> Response:
        """Removes an alias; what it pointed at stays."""
        message = pb.DeleteAliasRequest(
            model_name=request.path_params["name"], alias=request.path_params["alias"]
        )
        await self._registry.ask("DeleteAlias", message, self._credentials.of(request))
        return Response(status_code=204)

    async def datasets(self, request: Request) -> Response:
        """A page of the registry's datasets."""
        token = request.query_params.get("page_token", "")
        message = pb.ListDatasetsRequest(page_size=PAGE_SIZE, page_token=token)
        return JSONResponse(
            as_dict(await self._read(self._registry, "ListDatasets", message, request))
        )

    async def _read(self, service: Service, method: str, message: Any, request: Request) -> Any:
        credential = self._credentials.of(request)
        return await service.ask(method, message, credential, timeout_s=_READ_S)
