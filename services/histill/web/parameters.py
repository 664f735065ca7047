"""Values in the query of an address."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_WHOLE = (1 << 31) - 1
# Of thousands of digits Python makes no number.
_WHOLE = re.compile(r"[0-9]{1,10}")


def whole(asked: Mapping[str, str], name: str) -> int:
    """A whole number of at least 0; 0 where it is not given.

    Raises:
        InvalidArgumentError: It is none.
    """
    text = asked.get(name, "") or "0"
    if not _WHOLE.fullmatch(text) or int(text) > _MOST_WHOLE:
        raise InvalidArgumentError.of(name, "must be a whole number of at least 0")
    return int(text)


def number(asked: Mapping[str, str], name: str) -> float:
    """A number of at least 0; 0 where it is not given.

    Raises:
        InvalidArgumentError: It is none.
    """
    try:
        found = float(asked.get(name, "") or "0")
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found >= 0):
        raise InvalidArgumentError.of(name, "must be a number of at least 0")
    return found


def flag(asked: Mapping[str, str], name: str) -> bool:
    """Whether something is asked for.

    Raises:
        InvalidArgumentError: It is neither ``1`` nor ``0``.
    """
    text = asked.get(name, "") or "0"
    if text not in {"0", "1"}:
        raise InvalidArgumentError.of(name, "must be 1 or 0")
    return text == "1"
