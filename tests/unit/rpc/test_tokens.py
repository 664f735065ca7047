"""Tokens of an issuer: which are taken, as whom, and how its keys are followed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from histill.core.errors import (
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from histill.core.service_settings import AuthSettings, LimitSettings, OidcSettings
from histill.rpc.audit_facts import formed
from histill.rpc.auth import Caller
from histill.rpc.gate import Gate
from histill.rpc.issuer_keys import IssuerKeys
from histill.rpc.tokens import ALGORITHMS, Tokens
from issuers import AUDIENCE, Issuer, public_jwk

if TYPE_CHECKING:
    from collections.abc import Callable

GET = "/histill.api.distillation.v1.DistillationService/GetJob"


@dataclass
class House:
    """A service's side: an issuer in memory, a clock, and the tokens' reader."""

    issuer: Issuer
    settings: OidcSettings
    now: float = 1000.0
    fetched: Callable[[], list[dict[str, Any]]] | None = None
    tokens: Tokens = field(init=False)

    def __post_init__(self) -> None:
        keys = IssuerKeys(self.settings, self._fetch, lambda: self.now)
        self.tokens = Tokens(self.settings, keys)

    def _fetch(self) -> list[dict[str, Any]]:
        self.issuer.fetches += 1
        if self.issuer.away:
            raise UnavailableError("away")
        if self.fetched:
            return self.fetched()
        found: list[dict[str, Any]] = self.issuer.jwks()["keys"]
        return found


def house(algorithm: str = "RS256", **changes: Any) -> House:
    issuer = Issuer()
    issuer.rotate("k1", algorithm)
    settings = {
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "roles": {"staff": "operator", "chief": "admin", "guest": "viewer"},
        "leeway_s": 5,
    }
    return House(issuer, OidcSettings.model_validate(settings | changes))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_asymmetric_signatures_are_taken(algorithm: str) -> None:
    """Every algorithm of the list, with a key that names it."""
    ours = house(algorithm)
    assert await ours.tokens.caller(ours.issuer.token()) == Caller("oidc:grace", role="operator")


async def test_a_key_that_names_no_algorithm_serves_its_family() -> None:
    """Many issuers leave it out; another family's algorithm is refused all the same."""
    ours = house()
    key, _ = ours.issuer.keys["k1"]
    ours.fetched = lambda: [public_jwk(key, "RS256", "k1", named=False)]
    claims = ours.issuer.claims()
    for algorithm in ("RS256", "PS384"):
        token = jwt.encode(claims, key, algorithm, headers={"kid": "k1"})
        assert (await ours.tokens.caller(token)).id == "oidc:grace"
    other = house("ES256").issuer.token(headers={"kid": "k1"})
    with pytest.raises(UnauthenticatedError):
        await ours.tokens.caller(other)


async def test_a_key_is_for_the_algorithm_that_it_names() -> None:
    """RS512 with a key for RS256 is refused."""
    ours = house()
    key, _ = ours.issuer.keys["k1"]
    token = jwt.encode(ours.issuer.claims(), key, "RS512", headers={"kid": "k1"})
    with pytest.raises(UnauthenticatedError, match="RS512"):
        await ours.tokens.caller(token)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_no_signature_is_no_token() -> None:
    """``alg: none`` is refused in every spelling, and so is a signature that was cut off."""
    ours = house()
    body = part(ours.issuer.claims())
    for algorithm in ("none", "None", "NONE", "", None):
        with pytest.raises(UnauthenticatedError):
            await ours.tokens.caller(f"{part({'alg': algorithm, 'kid': 'k1'})}.{body}.")
    cut = ours.issuer.token().rpartition(".")[0]
    with pytest.raises(UnauthenticatedError):
        await ours.tokens.caller(f"{cut}.")


async def test_the_public_key_is_no_secret_to_sign_with() -> None:
    """HS256 over the public key, in PEM and as JSON, is refused."""
    ours = house()
    public = ours.issuer.keys["k1"][0].public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(ours.issuer.jwks()["keys"][0]).encode(),
    ]
    for secret in secrets:
        signed = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(ours.issuer.claims())}"
        mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        with pytest.raises(UnauthenticatedError, match="HS256"):
            await ours.tokens.caller(f"{signed}.{signature}")


async def test_shared_secrets_among_the_keys_are_left_out() -> None:
    """An ``oct`` key, and one for encryption, check nothing."""
    ours = house()
    oct_key = {"kty": "oct", "k": part("secret"), "kid": "k2"}
    encryption = {**ours.issuer.jwks()["keys"][0], "use": "enc", "kid": "k3"}
    ours.fetched = lambda: [oct_key, encryption]
    for kid in ("k2", "k3"):
        with pytest.raises(UnauthenticatedError):
            await ours.tokens.caller(ours.issuer.token(headers={"kid": kid}))


@pytest.mark.parametrize(
    ("claim", "seconds", "words"), [("exp", -60, "expired"), ("nbf", 600, "not taken")]
)
async def test_times_are_checked(claim: str, seconds: int, words: str) -> None:
    """A token counts from its beginning to its end."""
    ours = house()
    # The present time in a case's name would make each process collect other tests.
    changes: dict[str, Any] = {claim: int(time.time()) + seconds}
    with pytest.raises(UnauthenticatedError, match=words):
        await ours.tokens.caller(ours.issuer.token(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "https://other.example"}, "not taken"),
        ({"aud": "another"}, "audience histill"),
        ({"exp": None}, "exp"),
        ({"iss": None}, "iss"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"exp": "soon"}, "not taken"),
    ],
    ids=str,
)
async def test_claims_are_checked(changes: dict[str, Any], words: str) -> None:
    """Times, issuer and audience must be there and right."""
    ours = house()
    with pytest.raises(UnauthenticatedError, match=words):
        await ours.tokens.caller(ours.issuer.token(**changes))


async def test_clocks_may_differ_a_little() -> None:
    """Within the leeway a token is taken just after its end and just before its beginning."""
    ours = house()
    now = int(time.time())
    within: list[dict[str, Any]] = [{"exp": now - 2}, {"nbf": now + 3, "iat": now + 3}]
    for changes in within:
        assert await ours.tokens.caller(ours.issuer.token(**changes))


async def test_a_beginning_can_be_asked_for() -> None:
    """Without nbf a token is taken, unless the settings want one."""
    ours, strict = house(), house(require_nbf=True)
    assert await ours.tokens.caller(ours.issuer.token(nbf=None))
    with pytest.raises(UnauthenticatedError, match="nbf"):
        await strict.tokens.caller(strict.issuer.token(nbf=None))


async def test_a_changed_or_foreign_token_is_refused() -> None:
    """Another's signature, a changed claim, and noise."""
    ours = house()
    foreign = Issuer()
    foreign.rotate("k1", other=True)
    head, _, tail = ours.issuer.token().split(".")
    raised = f"{head}.{part(ours.issuer.claims(roles=['chief']))}.{tail}"
    for token in (foreign.token(), raised, "eyJ.eyJ.x", "eyJhbGciOiJSUzI1NiJ9.e30.", "a.b.c"):
        with pytest.raises(UnauthenticatedError):
            await ours.tokens.caller(token)


@pytest.mark.parametrize(
    ("value", "role"),
    [
        (["staff"], "operator"),
        ("chief", "admin"),
        (["guest", "chief", "unknown"], "admin"),
        (["unknown"], None),
        ([], None),
        (None, None),
        ({"staff": True}, None),
        ([["staff"]], None),
        (7, None),
    ],
    ids=str,
)
async def test_roles_come_from_a_claim(value: object, role: str | None) -> None:
    """The highest that the claim gives; none is denied, and not taken for a viewer."""
    ours = house()
    token = ours.issuer.token(roles=value)
    if role:
        assert (await ours.tokens.caller(token)).role == role
    else:
        with pytest.raises(PermissionDeniedError, match="roles"):
            await ours.tokens.caller(token)


async def test_a_claim_may_lie_deep_or_have_dots_in_its_name() -> None:
    """As Keycloak and as Auth0 write them."""
    deep = house(role_claim="realm_access.roles")
    assert await deep.tokens.caller(deep.issuer.token(realm_access={"roles": ["staff"]}))
    dotted = house(role_claim="https://a.example/roles")
    claims: dict[str, Any] = {"https://a.example/roles": ["staff"]}
    assert await dotted.tokens.caller(dotted.issuer.token(**claims))


async def test_projects_come_from_a_claim() -> None:
    """A valid name is taken; anything else, or nothing, is refused and not the default."""
    ours = house(project_claim="project")
    assert (await ours.tokens.caller(ours.issuer.token(project="team-a"))).project == "team-a"
    for wrong in ("../default", "Team", "a/b", "", None, ["team-a"], 7):
        with pytest.raises(PermissionDeniedError, match="project"):
            await ours.tokens.caller(ours.issuer.token(project=wrong))


async def test_a_new_key_of_the_issuer_is_found() -> None:
    """Rotation needs no restart, and the old key ends with it."""
    ours = house()
    old = ours.issuer.token()
    assert await ours.tokens.caller(old)
    ours.issuer.rotate("k2", other=True)
    ours.now += ours.settings.min_fetch_s
    assert await ours.tokens.caller(ours.issuer.token())
    with pytest.raises(UnauthenticatedError, match="lacks"):
        await ours.tokens.caller(old)


async def test_a_flood_of_unknown_keys_does_not_reach_the_issuer() -> None:
    """A thousand calls at once make one fetch, and a second one only after a while."""
    ours = house()
    assert await ours.tokens.caller(ours.issuer.token())
    ours.now += ours.settings.min_fetch_s
    flood = [
        ours.tokens.caller(ours.issuer.token(headers={"kid": f"unknown-{n}"})) for n in range(1000)
    ]
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(answer, UnauthenticatedError) for answer in answers)
    assert ours.issuer.fetches == 2
    ours.now += ours.settings.min_fetch_s / 2
    with pytest.raises(UnauthenticatedError):
        await ours.tokens.caller(ours.issuer.token(headers={"kid": "unknown"}))
    assert ours.issuer.fetches == 2


async def test_known_keys_go_on_for_a_while_without_the_issuer() -> None:
    """They are kept for ``keep_s``; then nobody is let in, with words that say why."""
    ours = house(keep_s=3600, refresh_s=300)
    token = ours.issuer.token
    assert await ours.tokens.caller(token())
    ours.issuer.away = True
    ours.now += 3500
    assert await ours.tokens.caller(token())
    ours.now += 200
    with pytest.raises(UnavailableError):
        await ours.tokens.caller(token())
    ours.issuer.away = False
    ours.now += ours.settings.min_fetch_s
    assert await ours.tokens.caller(token())


async def test_a_slow_issuer_holds_up_nobody_else() -> None:
    """While keys are fetched the event loop turns, and callers with known keys go on."""
    ours = house(refresh_s=300)
    assert await ours.tokens.caller(ours.issuer.token())
    ours.now += 301

    begun, on = threading.Event(), threading.Event()

    def slow() -> list[dict[str, Any]]:
        begun.set()
        assert on.wait(30)
        found: list[dict[str, Any]] = ours.issuer.jwks()["keys"]
        return found

    ours.fetched = slow
    async with asyncio.timeout(20):
        for _ in range(10):
            assert await ours.tokens.caller(ours.issuer.token())
            await asyncio.sleep(0)
        assert await asyncio.to_thread(begun.wait, 10)
    on.set()


async def test_keys_and_tokens_are_taken_side_by_side() -> None:
    """A token is looked at as a token, anything else as a key; limits count both."""
    ours = house()
    key = {"id": "ada", "sha256": hashlib.sha256(b"a.b.c").hexdigest(), "role": "admin"}
    door = Gate(AuthSettings.model_validate({"api_keys": [key]}), tokens=ours.tokens)

    async def who(credential: str) -> str:
        metadata = {"authorization": f"Bearer {credential}"}
        return (await door.admit(GET, metadata, "ipv4:10.0.0.1:1")).caller.id

    assert await who(ours.issuer.token()) == "oidc:grace"
    assert await who("a.b.c") == "ada"
    with pytest.raises(UnauthenticatedError, match="or a token"):
        await door.admit(GET, {}, "ipv4:10.0.0.1:1")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audience": ""}, "audience"),
        ({"roles": {}}, "roles"),
        ({"issuer": "http://issuer.example"}, "https"),
        ({"jwks_url": "http://issuer.example/keys"}, "https"),
        ({"roles": {"staff": "king"}}, "roles"),
    ],
    ids=str,
)
def test_half_an_issuer_is_an_error(changes: dict[str, Any], words: str) -> None:
    """Settings that would let in too many, or nobody, stop the start."""
    settings = {"issuer": "https://a.example", "audience": "a", "roles": {"staff": "viewer"}}
    with pytest.raises(ValueError, match=words):
        OidcSettings.model_validate(settings | changes)


@pytest.mark.parametrize("subject", ["Grace Hopper", "CN=a, O=b", "é" * 9, "x" * 300, "a" * 64])
async def test_a_subject_of_another_form_is_told_as_a_digest(subject: str) -> None:
    """The audit log can name such callers, and keeps them apart."""
    ours = house()
    names = [
        (await ours.tokens.caller(ours.issuer.token(sub=each))).id
        for each in (subject, subject, f"{subject}b", hashlib.sha256(subject.encode()).hexdigest())
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert formed("caller", names[0]) == names[0]
    assert subject not in names[0]


async def test_a_right_token_passes_though_its_address_is_slowed_down() -> None:
    """Only failures wait; and for a key that is not here, no issuer is asked meanwhile."""
    ours = house()
    auth = AuthSettings(oidc=ours.settings)
    limits = LimitSettings(failures_per_minute=1, failure_burst=1)
    gate = Gate(auth, None, limits, tokens=ours.tokens)

    async def ask(token: str) -> str:
        header = {"authorization": f"Bearer {token}"}
        return (await gate.admit(GET, header, "ipv4:10.0.0.1:1")).caller.id

    assert await ask(ours.issuer.token(sub="ada")) == "oidc:ada"
    with pytest.raises(UnauthenticatedError):
        await ask("guess")
    assert await ask(ours.issuer.token(sub="vera")) == "oidc:vera"
    ours.now += 100
    fetches = ours.issuer.fetches
    for wrong in (ours.issuer.token(exp=1), ours.issuer.token(headers={"kid": "k9"}), "e.y.J"):
        with pytest.raises(ResourceExhaustedError):
            await ask(wrong)
    assert ours.issuer.fetches == fetches
