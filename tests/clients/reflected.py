"""grpc-requests, a client that knows only what reflection tells: ``reflected.py TARGET``."""

import json
import sys

from grpc_requests import Client

SEGMENTATION = "histill.api.segmentation.v1.SegmentationService"


def main() -> None:
    """Lists services and models, and segments raw pixels."""
    client = Client.get_by_endpoint(sys.argv[1])
    models = client.request(SEGMENTATION, "ListModels", {})
    raw = {"data": "AAAA", "height": 1, "width": 1, "channels": 3}
    request = {"model": "nuclei", "raw": raw, "format": "MASK_FORMAT_RAW"}
    answer = client.request(SEGMENTATION, "Segment", request)
    live = client.request("inference.GRPCInferenceService", "ServerLive", {})
    sys.stdout.write(
        json.dumps(
            {
                "services": sorted(client.service_names),
                "models": [each["reference"] for each in models["models"]],
                "mask": answer["mask"],
                "live": live["live"],
            }
        )
    )


if __name__ == "__main__":
    main()
