"""Whom a server lets in, and what it tells those whom it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from histill.core.access import AccessKey
from histill.core.api_keys import digest, new_secret
from histill.core.errors import (
    HistillError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from histill.core.service_settings import ApiKey, AuthSettings, LimitSettings
from histill.rpc.auth import ANONYMOUS, Caller
from histill.rpc.gate import Gate

if TYPE_CHECKING:
    from histill.core.service_settings import Role

GET = "/histill.api.distillation.v1.DistillationService/GetJob"
DELETE = "/histill.api.distillation.v1.DistillationService/DeleteJob"
PEER = "ipv4:10.0.0.1:4711"
NOW = datetime(2026, 1, 10, tzinfo=UTC)


@dataclass
class Stored:
    """Keys in a dict."""

    keys: dict[str, AccessKey] = field(default_factory=dict)
    loaded: bool = True

    def find(self, sha256: str) -> AccessKey | None:
        return self.keys.get(sha256)

    def add(self, role: Role = "viewer", **changes: Any) -> str:
        secret = new_secret()
        key = AccessKey(
            id=f"{len(self.keys):016x}",
            sha256=digest(secret),
            role=role,
            project="team",
            description="d",
            creator="c",
            create_time=NOW - timedelta(days=5),
        )
        self.keys[key.sha256] = key.model_copy(update=changes)
        return secret


def root(name: str, role: str, project: str = "default") -> ApiKey:
    return ApiKey.model_validate(
        {"id": name, "sha256": digest(f"key-of-{name}"), "role": role, "project": project}
    )


ROOTS = (root("vera", "viewer"), root("ada", "admin"), root("tom", "admin", "team"))


def gate(stored: Stored | None = None, **limits: Any) -> Gate:
    return Gate(
        AuthSettings(api_keys=ROOTS),
        stored or Stored(),
        LimitSettings.model_validate(limits),
        clock=lambda: NOW,
    )


async def who(door: Gate, credential: str, method: str = GET, peer: str = PEER) -> Caller:
    return (await door.admit(method, {"authorization": f"Bearer {credential}"}, peer)).caller


async def refused(door: Gate, header: str) -> HistillError:
    with pytest.raises(HistillError) as caught:
        await door.admit(GET, {"authorization": header}, PEER)
    return caught.value


async def test_a_known_key_is_named() -> None:
    """The log gets the holder, not the key; role, project and root come along."""
    door = gate()
    assert await who(door, "key-of-vera") == Caller("vera", "default", "viewer")
    assert await who(door, "key-of-ada") == Caller("ada", "default", "admin", root=True)
    assert await who(door, "key-of-tom") == Caller("tom", "team", "admin")


async def test_a_stored_key_is_never_root() -> None:
    """An admin that was made at run time is an admin of its project."""
    stored = Stored()
    assert await who(gate(stored), stored.add("admin")) == Caller("0" * 16, "team", "admin")


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nobody", "Basic a2V5", "key-of-vera"])
async def test_no_key_or_an_unknown_one_is_unauthenticated(header: str) -> None:
    """Every way of having no valid key gets the same status."""
    assert isinstance(await refused(gate(), header), UnauthenticatedError)


async def test_each_refusal_says_what_to_do() -> None:
    """Missing, damaged, unknown, expired and revoked keys each get their own words."""
    stored = Stored()
    expired = stored.add(expire_time=NOW)
    revoked = stored.add(revoke_time=NOW - timedelta(days=1))
    door = gate(stored)
    whole = new_secret()
    swapped = whole[:-1] + ("a" if whole[-1] != "a" else "b")
    for header, words in (
        ("", "send an API key"),
        (f"Bearer {swapped}", "damaged"),
        (f"Bearer {whole}", "not known here"),
        (f"Bearer {expired}", "expired on 2026-01-10"),
        (f"Bearer {revoked}", "revoked on 2026-01-09"),
    ):
        error = await refused(door, header)
        assert isinstance(error, UnauthenticatedError)
        assert words in str(error)


async def test_only_the_holder_hears_that_a_key_has_ended() -> None:
    """A wrong secret, even with the right beginning, hears what one of no key hears."""
    stored = Stored()
    revoked = stored.add(revoke_time=NOW)
    words = {
        str(await refused(gate(stored), f"Bearer {guess}"))
        for guess in (new_secret(), new_secret(), "hunter2", "0" * 16)
    }
    assert len(words) == 1
    assert "revoked" in str(await refused(gate(stored), f"Bearer {revoked}"))


async def test_a_key_that_could_be_stored_waits_for_the_first_reading() -> None:
    """Nobody is let in before the keys were read; keys of the settings are."""
    stored = Stored(loaded=False)
    assert isinstance(await refused(gate(stored), f"Bearer {new_secret()}"), UnavailableError)
    assert isinstance(await refused(gate(stored), "Bearer nobody"), UnauthenticatedError)
    assert await who(gate(stored), "key-of-ada")


async def test_a_role_that_is_too_low_is_denied() -> None:
    """The error names the role that is needed."""
    with pytest.raises(PermissionDeniedError, match="needs the role admin"):
        await who(gate(), "key-of-vera", DELETE)
    assert (await who(gate(), "key-of-ada", DELETE)).id == "ada"


async def test_an_unlisted_method_is_refused_whoever_asks() -> None:
    """With a key, and where nobody needs one."""
    for door in (gate(), Gate(AuthSettings(mode="none"))):
        with pytest.raises(PermissionDeniedError, match="has no role"):
            await who(door, "key-of-ada", "/x.Y/Z")


async def test_probes_need_no_key() -> None:
    """Health checks carry no credentials, and get no rights."""
    admission = await gate().admit("/grpc.health.v1.Health/Check", {}, PEER)
    assert admission.caller == ANONYMOUS
    assert (ANONYMOUS.role, ANONYMOUS.root) == ("viewer", False)


async def test_a_stream_ends_with_its_key() -> None:
    """What let a call in can be asked again, and says no once the key has ended."""
    stored = Stored()
    secret = stored.add()
    admission = await gate(stored).admit(GET, {"authorization": f"Bearer {secret}"}, PEER)
    admission.check()
    found = stored.keys[digest(secret)]
    stored.keys[found.sha256] = found.model_copy(update={"revoke_time": NOW})
    with pytest.raises(UnauthenticatedError, match="revoked"):
        admission.check()


async def test_callers_are_limited_each_for_itself() -> None:
    """The third call of one caller waits; another's goes on, and one of another project too."""
    stored = Stored()
    other = stored.add()
    door = gate(stored, calls_per_s=0.01, call_burst=2)
    await who(door, "key-of-vera")
    await who(door, "key-of-vera")
    with pytest.raises(ResourceExhaustedError) as caught:
        await who(door, "key-of-vera")
    assert 0 < (caught.value.retry_after_s or 0) <= 100
    await who(door, "key-of-ada")
    await who(door, other)


async def test_guessing_is_slowed_down_by_address() -> None:
    """After the burst each failure hears when to come back; who is right goes on."""
    door = gate(failures_per_minute=1, failure_burst=3)
    for number in range(3):
        with pytest.raises(UnauthenticatedError):
            await who(door, f"guess-{number}")
    for guess in ("guess-3", ""):
        with pytest.raises(ResourceExhaustedError) as caught:
            await who(door, guess)
        assert 0 < (caught.value.retry_after_s or 0) <= 60
    # Who shares the address is not locked out with the one who guesses, even if never seen.
    assert (await who(door, "key-of-ada")).id == "ada"
    with pytest.raises(UnauthenticatedError):
        await who(door, "guess-4", peer="ipv4:10.0.0.2:4711")


async def test_a_key_that_cannot_be_guessed_is_let_in_from_anywhere() -> None:
    """A new key works at once though others of its address fail; an unknown one is slowed."""
    stored = Stored()
    door = gate(stored, failures_per_minute=1, failure_burst=1)
    with pytest.raises(UnauthenticatedError):
        await who(door, "guess")
    assert (await who(door, stored.add())).project == "team"
    with pytest.raises(ResourceExhaustedError):
        await who(door, new_secret())


async def test_a_revoked_key_loses_its_way_past_the_limit() -> None:
    """Being known is not kept beyond the key."""
    stored = Stored()
    secret = stored.add()
    door = gate(stored, failures_per_minute=1, failure_burst=1)
    await who(door, secret)
    stored.keys.clear()
    with pytest.raises(UnauthenticatedError):
        await who(door, secret)
    with pytest.raises(ResourceExhaustedError):
        await who(door, secret)
