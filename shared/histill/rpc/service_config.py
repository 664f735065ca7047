"""Which calls our clients make again, and to whom: gRPC's service config.

Source: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

from __future__ import annotations

import json
from typing import Any

_API = "histill.api"
_JOBS = f"{_API}.distillation.v1.DistillationService"
_REGISTRY = f"{_API}.registry.v1.RegistryService"
_ACCESS = f"{_API}.access.v1.AccessService"
_PRIVACY = f"{_API}.privacy.v1.PrivacyService"

# A server that stops cancels what outlasts its drain, and calls that come before their caller
# has heard of it. The former may have taken effect: only what may be done twice is done again.
REPEATABLE = {
    _JOBS: ("CreateJob", "GetJob", "ListJobs", "CancelJob", "WatchJob", "GetReport", "GetSamples"),
    _REGISTRY: ("DownloadModel", "GetModel", "ListModels", "GetDataset", "ListDatasets"),
    _ACCESS: ("ListKeys", "RevokeKey", "GetCaller"),
}
# Whose answer was lost has taken effect, and again would be another one: a version, a key whose
# secret nobody has, a list of what was removed without what the first call removed.
NEVER = {
    _REGISTRY: ("UploadModel", "UploadDataset"),
    _ACCESS: ("CreateKey",),
    _PRIVACY: ("Purge",),
}
INFERENCE = (f"{_API}.segmentation.v1.SegmentationService", "inference.GRPCInferenceService")


def service_config() -> str:
    """As gRPC takes it, in JSON: all addresses of a name in turn, and what is tried again.

    A call of any other method is made again where the server was not reached (UNAVAILABLE). A
    service that is full says in ``grpc-retry-pushback-ms`` when to come back, or that it makes no
    sense; nothing was done.
    """
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [
                {"name": [{}], **_retried("UNAVAILABLE")},
                {"name": _methods(REPEATABLE), **_retried("UNAVAILABLE", "CANCELLED")},
                {"name": _methods(NEVER)},
                {
                    "name": [{"service": service} for service in INFERENCE],
                    **_retried("UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"),
                },
            ],
        }
    )


def _retried(*codes: str) -> dict[str, Any]:
    return {
        "retryPolicy": {
            "maxAttempts": 4,
            "initialBackoff": "0.2s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": codes,
        }
    }


def _methods(table: dict[str, tuple[str, ...]]) -> list[dict[str, str]]:
    return [
        {"service": service, "method": method}
        for service, methods in table.items()
        for method in methods
    ]
