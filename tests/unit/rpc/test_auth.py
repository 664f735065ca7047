"""Who may call what."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from histill.api.distillation.v1 import distillation_service_pb2
from histill.api.registry.v1 import registry_service_pb2
from histill.api.segmentation.v1 import segmentation_service_pb2
from histill.core.errors import PermissionDeniedError, UnauthenticatedError
from histill.core.settings import ApiKey, AuthSettings
from histill.rpc.auth import ANONYMOUS, authorize
from histill.rpc.roles import ROLES

FILES: list[Any] = [
    distillation_service_pb2,
    registry_service_pb2,
    segmentation_service_pb2,
]
GET = "/histill.api.distillation.v1.DistillationService/GetJob"
DELETE = "/histill.api.distillation.v1.DistillationService/DeleteJob"


def key(name: str, role: str) -> ApiKey:
    digest = hashlib.sha256(f"key-of-{name}".encode()).hexdigest()
    return ApiKey.model_validate({"id": name, "sha256": digest, "role": role})


SETTINGS = AuthSettings(api_keys=(key("vera", "viewer"), key("ada", "admin")))


def test_every_method_of_every_service_has_a_role() -> None:
    """The table and the API name the same methods."""
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods <= set(ROLES)
    assert all(name.startswith(("/histill.api.", "/inference.")) for name in set(ROLES) - methods)


def test_a_known_key_is_named() -> None:
    """The log gets the holder, not the key."""
    assert authorize(GET, {"authorization": "Bearer key-of-vera"}, SETTINGS).id == "vera"


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nobody", "Basic a2V5", "key-of-vera"])
def test_no_key_or_an_unknown_one_is_unauthenticated(header: str) -> None:
    """Every way of having no valid key gets the same status."""
    with pytest.raises(UnauthenticatedError):
        authorize(GET, {"authorization": header}, SETTINGS)


def test_a_viewer_may_not_delete() -> None:
    """The error names the role that is needed."""
    with pytest.raises(PermissionDeniedError, match="needs the role admin"):
        authorize(DELETE, {"authorization": "Bearer key-of-vera"}, SETTINGS)
    assert authorize(DELETE, {"authorization": "Bearer key-of-ada"}, SETTINGS).id == "ada"


def test_a_method_that_is_not_listed_is_refused_to_everyone() -> None:
    """A new method is closed until somebody gives it a role."""
    with pytest.raises(PermissionDeniedError, match="has no role"):
        authorize("/x.Y/Z", {"authorization": "Bearer key-of-ada"}, SETTINGS)
    with pytest.raises(PermissionDeniedError):
        authorize("/x.Y/Z", {}, AuthSettings(mode="none"))


def test_probes_need_no_key() -> None:
    """Health checks carry no credentials."""
    assert authorize("/grpc.health.v1.Health/Check", {}, SETTINGS) == ANONYMOUS
