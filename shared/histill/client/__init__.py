"""The Python SDK: everything a program does with histill, over gRPC.

    >>> from histill.client import Client
    >>> client = Client.connect()
    >>> result = client.segment(Path("tile.png"), model="nuclei@production")

Answers are the API's own protobuf messages, typed and documented in ``protos/``;
errors are those of ``histill.core.errors``.
"""

from histill.client.client import Client
from histill.client.datasets import Datasets
from histill.client.jobs import Jobs
from histill.client.keys import Keys
from histill.client.models import Models
from histill.client.privacy import Privacy
from histill.client.segmentation import Segmentation, Segmenter
from histill.client.settings import ClientSettings

__all__ = [
    "Client",
    "ClientSettings",
    "Datasets",
    "Jobs",
    "Keys",
    "Models",
    "Privacy",
    "Segmentation",
    "Segmenter",
]
