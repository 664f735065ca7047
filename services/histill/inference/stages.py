"""Spans of one request's stages, and of a run that several requests share.

A request has one span a stage, from its first begin to its last end, however many tiles it is
cut into: a slide has tens of thousands, of which a trace would show nothing. What a stage really
took is an attribute, since decoding, computing and writing take turns, tile by tile.

A run for several requests is in none of their traces alone. Its span lies in the trace of the
first one that is kept, has links to the others, and the computing of each has a link to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.rpc.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

    from histill.inference.models import LoadedModel
    from histill.rpc.spans import Spans

COMPUTE = "compute"


@dataclass
class _Spent:
    """When a stage was at work, as ``time.monotonic()`` tells it, and seconds of all its times."""

    began: float
    ended: float
    took: float
    times: int


@dataclass
class Stages:
    """What is to be told of one request that is traced.

    Attributes:
        spans: Makes spans.
        parent: The call that brought the request.
        shared: Of the runs that it shared with others.
        images: Of the largest of its runs, those of others too.
    """

    spans: Spans
    parent: Context
    shared: list[SpanContext] = field(default_factory=list)
    images: int = 0
    _spent: dict[str, _Spent] = field(default_factory=dict)

    def spent(self, name: str, began: float, ended: float) -> None:
        """Adds some time of a stage, as ``time.monotonic()`` tells it."""
        stage = self._spent.setdefault(name, _Spent(began, ended, 0.0, 0))
        stage.ended = max(stage.ended, ended)
        stage.took += ended - began
        stage.times += 1

    def ran(self, images: int) -> None:
        """A run of the network had so many images or tiles, of whomever."""
        self.images = max(self.images, images)

    def tell(self, model: LoadedModel) -> None:
        """Makes the spans, once the request has ended, and names its model to the call's."""
        self.spans.note(_named(model))
        for name, stage in self._spent.items():
            attributes = {"histill.seconds": stage.took, "histill.times": stage.times}
            if name == COMPUTE:
                attributes["histill.batch.size"] = self.images
            span = self.spans.begin(
                name,
                parent=self.parent,
                attributes=attributes,
                links=self.shared if name == COMPUTE else (),
                at=_wall(stage.began),
            )
            span.end(_wall(stage.ended))


def stages() -> Stages | None:
    """Of a request of the call that is being answered; ``None`` where it is not traced."""
    spans = tracing()
    if spans is None or not spans.admits():
        return None
    return Stages(spans, spans.here())


def tell_run(
    model: LoadedModel, requests: Sequence[Stages | None], *, images: int, began: float, took: float
) -> None:
    """Tells the requests of a batch of its run, which has a span where it was of several.

    Args:
        model: That was run.
        requests: Of the batch; ``None`` for those that are not traced.
        images: Of all requests.
        began: ``time.monotonic()`` of its turn.
        took: Seconds.
    """
    traced = [each for each in requests if each is not None]
    for each in traced:
        each.ran(images)
    if traced and len(requests) > 1:
        _share(model, traced, images=images, began=began, took=took)


def _share(
    model: LoadedModel, traced: Sequence[Stages], *, images: int, began: float, took: float
) -> None:
    from histill.rpc.spans import span_of

    first, *others = traced
    span = first.spans.begin(
        "batch",
        parent=first.parent,
        attributes=_named(model) | {"histill.batch.size": images},
        links=[span_of(each.parent) for each in others],
        at=_wall(began),
    )
    span.end(_wall(began + took))
    for each in traced:
        each.shared.append(span.get_span_context())


def _named(model: LoadedModel) -> dict[str, str | int | float]:
    return {"histill.model": model.manifest.reference, "histill.project": model.project}


def _wall(monotonic: float) -> int:
    """Nanoseconds since 1970 of a moment of ``time.monotonic()``."""
    return time.time_ns() - round((time.monotonic() - monotonic) * 1e9)
