"""What workers' disks hold, in Redis: a set a worker, which runs out with its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from histill.adapters.redis_client import PREFIX, translated
from histill.core.ports import Told

if TYPE_CHECKING:
    from redis import Redis

_OF_WORKER = f"{PREFIX}cache:"
_ASKED = f"{PREFIX}cache-asked"
# A set cannot be empty, and must say what its worker had been asked.
_MARK = "asked:"


class RedisHoldings:
    """Implements ``Holdings``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def ask(self) -> int:
        """Asks all workers to look."""
        with translated():
            return int(self._client.incr(_ASKED))

    def asked(self) -> int:
        """Number of the last question."""
        with translated():
            return int(str(self._client.get(_ASKED) or 0))

    def tell(self, worker: str, told: Told, *, ttl_s: float) -> None:
        """Replaces what a worker said."""
        key = _OF_WORKER + worker
        with translated(), self._client.pipeline() as pipe:
            pipe.delete(key)
            pipe.sadd(key, f"{_MARK}{told.asked}", *sorted(told.held))
            pipe.pexpire(key, int(1000 * ttl_s))
            pipe.execute()

    def told(self) -> dict[str, Told]:
        """What each living worker said last."""
        client: Any = self._client
        with translated():
            found = {key: client.smembers(key) for key in client.scan_iter(f"{_OF_WORKER}*")}
        start = len(_OF_WORKER)
        return {key[start:]: _told(members) for key, members in found.items() if members}

    def leave(self, worker: str) -> None:
        """Forgets a worker."""
        with translated():
            self._client.delete(_OF_WORKER + worker)


def _told(members: set[str]) -> Told:
    marks = [int(each.removeprefix(_MARK)) for each in members if each.startswith(_MARK)]
    return Told(max(marks, default=0), frozenset(m for m in members if not m.startswith(_MARK)))
