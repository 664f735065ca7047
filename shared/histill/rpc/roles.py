"""Which role may call which method; a method that is not listed may be called by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histill.core.service_settings import Role

# From the lowest to the highest.
RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}

_ACCESS = "/histill.api.access.v1.AccessService/"
_DISTILLATION = "/histill.api.distillation.v1.DistillationService/"
_PRIVACY = "/histill.api.privacy.v1.PrivacyService/"
_REGISTRY = "/histill.api.registry.v1.RegistryService/"
_SEGMENTATION = "/histill.api.segmentation.v1.SegmentationService/"
_OPEN_INFERENCE = "/inference.GRPCInferenceService/"

ROLES: dict[str, Role] = {
    _ACCESS + "CreateKey": "admin",
    _ACCESS + "ListKeys": "admin",
    _ACCESS + "RevokeKey": "admin",
    _ACCESS + "GetCaller": "viewer",
    _DISTILLATION + "CreateJob": "operator",
    _DISTILLATION + "GetJob": "viewer",
    _DISTILLATION + "ListJobs": "viewer",
    _DISTILLATION + "CancelJob": "operator",
    _DISTILLATION + "DeleteJob": "admin",
    _DISTILLATION + "WatchJob": "viewer",
    _DISTILLATION + "GetReport": "viewer",
    # Samples show more of what teachers learnt than a report does.
    _DISTILLATION + "GetSamples": "operator",
    _PRIVACY + "Purge": "admin",
    _REGISTRY + "UploadModel": "operator",
    _REGISTRY + "DownloadModel": "operator",
    _REGISTRY + "GetModel": "viewer",
    _REGISTRY + "ListModels": "viewer",
    _REGISTRY + "DeleteModel": "admin",
    _REGISTRY + "SetAlias": "operator",
    _REGISTRY + "DeleteAlias": "operator",
    _REGISTRY + "UploadDataset": "operator",
    _REGISTRY + "GetDataset": "viewer",
    _REGISTRY + "ListDatasets": "viewer",
    _REGISTRY + "DeleteDataset": "admin",
    _SEGMENTATION + "Segment": "viewer",
    _SEGMENTATION + "SegmentLarge": "viewer",
    _SEGMENTATION + "ListModels": "viewer",
    _OPEN_INFERENCE + "ServerLive": "viewer",
    _OPEN_INFERENCE + "ServerReady": "viewer",
    _OPEN_INFERENCE + "ServerMetadata": "viewer",
    _OPEN_INFERENCE + "ModelReady": "viewer",
    _OPEN_INFERENCE + "ModelMetadata": "viewer",
    _OPEN_INFERENCE + "ModelInfer": "viewer",
    _OPEN_INFERENCE + "ModelStreamInfer": "viewer",
    _OPEN_INFERENCE + "ModelConfig": "viewer",
    _OPEN_INFERENCE + "ModelStatistics": "viewer",
    _OPEN_INFERENCE + "RepositoryIndex": "viewer",
    # Clients without this right load models too, by asking; not what an alias points at now.
    _OPEN_INFERENCE + "RepositoryModelLoad": "operator",
    _OPEN_INFERENCE + "RepositoryModelUnload": "operator",
}

# Probes and reflection carry no credentials and tell nothing that is not public.
OPEN_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
