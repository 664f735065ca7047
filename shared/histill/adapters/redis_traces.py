"""Searches all that we keep in Redis for words, and removes what was found."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from histill.adapters.redis_client import PREFIX, translated
from histill.core.ports import Mention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from redis import Redis

_AT_ONCE = 500


class RedisTraces:
    """Implements ``Traces``: each of our keys begins with ``histill:``, Celery's too.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def find(self, matches: Callable[[str], bool]) -> tuple[int, list[Mention]]:
        """How many keys there are, and where a name or a value matches."""
        number, found = 0, []
        with translated():
            # A key may come twice while the table grows.
            keys = sorted(set(self._client.scan_iter(f"{PREFIX}*", count=_AT_ONCE)))
            for key, kind in self._kinds(keys):
                number += 1
                if matches(key):
                    found.append(Mention(key, "", key))
                    continue
                found += [
                    Mention(key, member, text)
                    for member, text in self._members(key, kind)
                    if matches(text)
                ]
        return number, found

    def _kinds(self, keys: list[str]) -> Iterator[tuple[str, str]]:
        rest = iter(keys)
        while part := list(islice(rest, _AT_ONCE)):
            with self._client.pipeline(transaction=False) as pipe:
                for key in part:
                    pipe.type(key)
                yield from zip(part, pipe.execute(), strict=True)

    def _members(self, key: str, kind: str) -> Iterator[tuple[str, str]]:
        """Each part of a value, and the text in which to look."""
        client: Any = self._client
        match kind:
            case "string":
                yield "", str(client.get(key) or "")
            case "hash":
                for field, value in client.hscan_iter(key, count=_AT_ONCE):
                    yield field, f"{field} {value}"
            case "set":
                yield from ((each, each) for each in client.sscan_iter(key, count=_AT_ONCE))
            case "zset":
                yield from ((each, each) for each, _ in client.zscan_iter(key, count=_AT_ONCE))
            case "list":
                yield from ((each, each) for each in client.lrange(key, 0, -1))
            case "stream":
                yield from self._entries(key)
            case _:
                return  # it has run out meanwhile

    def _entries(self, key: str) -> Iterator[tuple[str, str]]:
        client: Any = self._client
        start = "-"
        while page := client.xrange(key, start, count=_AT_ONCE):
            for entry, fields in page:
                yield entry, " ".join(f"{name} {value}" for name, value in fields.items())
            start = f"({page[-1][0]}"

    def erase(self, mentions: Iterable[Mention]) -> int:
        """Removes keys, or members of keys; how many were still there."""
        with translated():
            return sum(self._erased(mention) for mention in mentions)

    def _erased(self, mention: Mention) -> int:
        client: Any = self._client
        key, member = mention.key, mention.member
        if not member:
            return int(client.delete(key))
        kind = client.type(key)
        removal = {"hash": "hdel", "set": "srem", "zset": "zrem", "stream": "xdel"}.get(kind)
        if kind == "list":
            return int(client.lrem(key, 0, member))
        return int(getattr(client, removal)(key, member)) if removal else 0
