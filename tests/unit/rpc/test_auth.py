"""Who may call what, by the one table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from pydantic import ValidationError

from histill.core.errors import PermissionDeniedError
from histill.core.service_settings import ApiKey
from histill.rpc.auth import Caller, authorize
from histill.rpc.roles import RANKS, ROLES

API = Path(__file__).parents[3] / "shared" / "histill" / "api"
DELETE = "/histill.api.distillation.v1.DistillationService/DeleteJob"


def methods() -> set[str]:
    """Every method of every service of every generated module."""
    found = set()
    for path in sorted(API.rglob("*_pb2.py")):
        name = ".".join(["histill", "api", *path.relative_to(API).with_suffix("").parts])
        module: Any = importlib.import_module(name)
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for service in file.service:
            found |= {f"/{file.package}.{service.name}/{method.name}" for method in service.method}
    return found


def test_every_method_of_every_service_has_a_role() -> None:
    """The table and the protos name the same methods,."""
    found = methods()
    services = {name.rpartition("/")[0] for name in found}
    assert {
        "/histill.api.access.v1.AccessService",
        "/inference.GRPCInferenceService",
    } <= services
    assert found - set(ROLES) == set()
    assert set(ROLES) - found == set()


def test_a_method_that_is_not_listed_is_refused_to_everyone() -> None:
    """A new method is closed until somebody gives it a role."""
    with pytest.raises(PermissionDeniedError, match="has no role"):
        authorize("/x.Y/Z", Caller("ada", role="admin", root=True))


@pytest.mark.parametrize("method", sorted(ROLES))
def test_a_role_opens_what_it_should_and_no_more(method: str) -> None:
    """Each role may call the methods of its rank and below; the error names what is needed."""
    for role, rank in RANKS.items():
        caller = Caller("ada", role=role)
        if rank >= RANKS[ROLES[method]]:
            authorize(method, caller)
        else:
            with pytest.raises(PermissionDeniedError, match=f"needs the role {ROLES[method]}"):
                authorize(method, caller)


@pytest.mark.parametrize("name", ["PACS ward 3", "", "Müller", "x" * 129])
def test_a_key_has_a_name_that_the_audit_log_can_hold(name: str) -> None:
    """The error says what may stand there; the log would say "(other)" of such a caller."""
    with pytest.raises(ValidationError, match="letters, digits or"):
        ApiKey(id=name, sha256="0" * 64, role="viewer")
    assert ApiKey(id="pacs-ward-3", sha256="0" * 64, role="viewer").id == "pacs-ward-3"
