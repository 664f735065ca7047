"""Looks for words and bytes wherever they may have been left, in every form they may have."""

from __future__ import annotations

import base64
import urllib.parse
from typing import TYPE_CHECKING, Any

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from conftest import Valkey

_LEAST = 6  # of base64 that says something


def forms(secret: str | bytes) -> set[bytes]:
    """A secret as it is, as UTF-16, base64 at each offset, hexadecimal and percent-encoded."""
    data = secret.encode() if isinstance(secret, str) else secret
    made = {data, data.hex().encode(), data.hex().upper().encode()}
    if isinstance(secret, str):
        made |= {secret.encode("utf-16-le"), secret.encode("utf-16-be")}
        made |= {urllib.parse.quote(secret, safe="").encode(), secret.lower().encode()}
        made |= {
            secret.encode("ascii", "backslashreplace"),
            urllib.parse.quote_plus(secret).encode(),
        }
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data)
        # Its first and last characters depend on what stands around it.
        inner = encoded[(4 if shift else 0) : len(encoded) // 4 * 4 - 4]
        if len(inner) >= _LEAST:
            made |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {each for each in made if each}


def found_in(places: Iterable[tuple[str, bytes]], secrets: Iterable[str | bytes]) -> list[str]:
    """``place: secret`` for each place that holds a secret in any form."""
    needles = [(secret, forms(secret)) for secret in secrets]
    return [
        f"{place}: {secret!r}"
        for place, data in places
        for secret, ways in needles
        if any(way in data or way in place.encode() for way in ways)
    ]


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every file under some folders, with its path."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                try:
                    yield str(path.relative_to(folder.parent)), path.read_bytes()
                except FileNotFoundError:
                    continue  # it went meanwhile


def redis_values(valkey: Valkey) -> Iterator[tuple[str, bytes]]:
    """Every key of a server with all that it holds, raw."""
    client: Any = Redis.from_url(valkey.settings.url.get_secret_value())
    readers = {
        b"string": lambda key: [client.get(key) or b""],
        b"hash": lambda key: [b for pair in client.hgetall(key).items() for b in pair],
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": lambda key: [
            b for _, fields in client.xrange(key) for pair in fields.items() for b in pair
        ],
        b"none": lambda _: [],
    }
    with client:
        for key in client.scan_iter("*", count=1000):
            yield key.decode(errors="replace"), b"\n".join(readers[client.type(key)](key))
