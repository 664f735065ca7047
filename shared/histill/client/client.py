"""The client of the whole system: one channel a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from histill.client.datasets import Datasets
from histill.client.jobs import Jobs
from histill.client.keys import Keys
from histill.client.models import Models
from histill.client.privacy import Privacy
from histill.client.segmentation import Segmenter
from histill.client.settings import ClientSettings, load_client
from histill.rpc.channel import ChannelTls, sync_channel

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import grpc

    from histill.client.segmentation import Segmentation


class Client:
    """Jobs, models, datasets and segmentation behind one object.

    Use it as a context manager, or call ``close``. Safe to share between threads.

    Attributes:
        jobs: Submit, follow and cancel jobs.
        models: Push, find, fetch, alias and remove models.
        datasets: Push, find and remove datasets.
        inference: Segment images.
        keys: Make, list and revoke API keys.
        privacy: Remove jobs and datasets with every trace.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        jobs, registry, inference = self._channels = tuple(
            open_channel(target, settings)
            for target in (settings.jobs, settings.registry, settings.inference)
        )
        self.jobs = Jobs(jobs, timeout_s=settings.timeout_s)
        self.privacy = Privacy(jobs, timeout_s=settings.timeout_s)
        self.models = Models(registry, timeout_s=settings.timeout_s)
        self.datasets = Datasets(registry, timeout_s=settings.timeout_s)
        self.keys = Keys(registry, timeout_s=settings.timeout_s)
        self.inference = Segmenter(inference, timeout_s=settings.timeout_s)

    @classmethod
    def connect(cls, home: Path | None = None) -> Self:
        """A client from ``HISTILL_CLIENT__*`` variables, or of the embedded system.

        Args:
            home: Folder of embedded mode; by default the one ``histill up`` uses.

        Raises:
            SettingsError: A variable or embedded mode's file is wrong.
        """
        return cls(load_client(home))

    def segment(self, image: Path | bytes, *, model: str, mask_format: str = "png") -> Segmentation:
        """Short for ``inference.segment``."""
        return self.inference.segment(image, model=model, mask_format=mask_format)

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_channel(target: str, settings: ClientSettings) -> grpc.Channel:
    """A channel to one service, with our key and certificates.

    Raises:
        OSError: A PEM file cannot be read.
    """
    tls = ChannelTls(settings.ca_file, settings.certificate, settings.key)
    return sync_channel(target, api_key=settings.api_key.get_secret_value(), tls=tls)
