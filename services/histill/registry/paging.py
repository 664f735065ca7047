"""Pages over sorted references: the token is the last reference of the page before."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from histill.core.errors import InvalidArgumentError
from histill.core.manifests import DatasetManifest, ModelManifest
from histill.core.names import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

M = TypeVar("M", ModelManifest, DatasetManifest)
DEFAULT_PAGE = 50
MAX_PAGE = 1000


def page(items: Iterable[M], *, size: int, token: str) -> tuple[list[M], str]:
    """A page of manifests that come by name, and newest first, with the next page's token.

    Raises:
        InvalidArgumentError: ``size`` or ``token`` is wrong.
    """
    if not 0 <= size <= MAX_PAGE:
        raise InvalidArgumentError.of("page_size", f"must be from 0 to {MAX_PAGE}")
    start = parse_reference(token, field="page_token") if token else None
    found: list[M] = []
    for item in items:
        if start and (item.name, -item.version) <= (start.name, -(start.version or 0)):
            continue
        if len(found) == (size or DEFAULT_PAGE):
            return found, found[-1].reference
        found.append(item)
    return found, ""
