"""Signing in, models and jobs through the page, over a real registry and jobs service."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from conftest import end, run_valkey
from histill.client import Client, ClientSettings
from pages import HOST, ROLES, Page, api_keys, bearer_of, key_of, page_of
from pictures import write_dataset
from services import Service, service, settings_of
from serving import bucket_of
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from conftest import S3

YAML = """
display_name: a small one
supervised:
  dataset: discs
  output_model: tiny
  training: {steps: 5}
"""


@dataclass(frozen=True)
class System:
    """What runs behind the page.

    Attributes:
        targets: Settings of the page that lead there.
        sdk: The SDK, as an admin.
    """

    registry: Service
    targets: dict[str, str]
    sdk: Client


@pytest.fixture(scope="module")
def system(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A registry with two versions of a student and a dataset, and a jobs service."""
    folder = tmp_path_factory.mktemp("system")
    bucket, store = bucket_of(s3)
    for version in (1, 2):
        data = student(threshold=100.0 + version)
        publish(store, data, folder, like=manifest(data, version=version))
    valkey = run_valkey(folder / "valkey")
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_S3__BUCKET": bucket,
        "HISTILL_AUTH__API_KEYS": api_keys(),
    }
    with (
        service("registry", folder, variables) as registry,
        service("jobs", folder, variables) as jobs,
    ):
        registry.wait()
        jobs.wait()
        targets = {each.name: f"{HOST}:{each.port}" for each in (registry, jobs)}
        settings = targets | {"api_key": key_of("admin")}
        with Client(ClientSettings.model_validate(settings)) as sdk:
            sdk.datasets.push(write_dataset(folder / "discs"), name="discs")
            yield System(registry, targets, sdk)
    end(valkey.server)


@pytest.fixture(scope="module")
def page(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, where everybody signs in."""
    folder = tmp_path_factory.mktemp("web")
    with page_of(folder, sign_in_failures_per_minute="0", **system.targets) as started:
        yield started


@pytest.fixture(scope="module")
def programs(page: Page) -> Iterator[dict[str, httpx.Client]]:
    """A program for each role, and one that shows no key."""
    made = {role: page.visitor(role) for role in ("", *ROLES)}
    yield made
    for each in made.values():
        each.close()


# Signing in


@pytest.mark.parametrize("role", ROLES)
def test_signing_in_and_out(page: Page, role: str) -> None:
    """The page knows who is there, until they leave."""
    with page.visitor() as visitor:
        assert visitor.get("/api/session").status_code == 401
        answer = visitor.post("/api/session", json={"token": f" {key_of(role)}\n"})
        expected = {
            "caller_id": f"default-{role}",
            "role": role,
            "project": "default",
            "guest": False,
            "signed_in": True,
        }
        assert answer.json() == expected
        assert visitor.get("/api/session").json() == expected
        assert visitor.get("/api/models").status_code == 200
        assert visitor.delete("/api/session").status_code == 204
        assert visitor.get("/api/session").status_code == 401
        assert visitor.get("/api/models").status_code == 401


def test_no_script_and_no_other_site_gets_the_cookie(
    page: Page, system: System, tmp_path: Path
) -> None:
    """It is for this host's HTTP alone, and for HTTPS alone unless the settings say otherwise."""
    with page.visitor() as visitor:
        cookie = visitor.post("/api/session", json={"token": key_of("viewer")}).headers[
            "set-cookie"
        ]
        gone = visitor.delete("/api/session").headers["set-cookie"]
    assert cookie == f"histill={key_of('viewer')}; HttpOnly; Path=/; SameSite=strict"
    assert gone.startswith('histill=""; ')
    assert "Max-Age=0" in gone
    with (
        page_of(tmp_path, secure_cookies="true", **system.targets) as secure,
        secure.visitor() as visitor,
    ):
        answer = visitor.post("/api/session", json={"token": key_of("viewer")})
        assert answer.headers["set-cookie"] == (
            f"__Host-histill={key_of('viewer')}; HttpOnly; Path=/; SameSite=strict; Secure"
        )
        kept = {"cookie": f"__Host-histill={key_of('viewer')}"}
        assert visitor.get("/api/session", headers=kept).status_code == 200
        # A cookie of that name can be set by a neighbour of this host.
        kept = {"cookie": f"histill={key_of('viewer')}"}
        assert visitor.get("/api/session", headers=kept).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"token": "nobody"}, 401, "not known here"),
        ({"token": "hst_x"}, 401, "damaged"),
        ({"token": " "}, 400, "holds no key"),
        ({"token": "ключ"}, 400, "letters that no key has"),
        ({"token": "x" * 5000}, 401, "not known here"),
        ({"token": "x" * 8000}, 400, "more than the 7000"),
        ({"token": 1}, 400, "is missing"),
        ({}, 400, "is missing"),
        ([], 400, "must be a JSON object"),
    ],
)
def test_keys_that_are_none(page: Page, body: object, status: int, words: str) -> None:
    """What is wrong is said, and no cookie is set."""
    with page.visitor() as visitor:
        answer = visitor.post("/api/session", json=body)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"]
        assert "set-cookie" not in answer.headers


def test_a_cookie_that_is_refused_makes_nobody_a_guest(system: System, tmp_path: Path) -> None:
    """A guest has the guest's key; whoever's own key is over is told so until they sign out."""
    with (
        page_of(
            tmp_path,
            guest_key=key_of("viewer"),
            sign_in_failures_per_minute="0",
            **system.targets,
        ) as page,
        page.visitor() as visitor,
    ):
        guest = visitor.get("/api/session").json()
        assert (guest["role"], guest["guest"], guest["signed_in"]) == ("viewer", True, False)
        key, secret = system.sdk.keys.create(role="operator", description="short")
        while (answer := visitor.post("/api/session", json={"token": secret})).status_code == 401:
            time.sleep(0.1)  # it is in force within seconds
        assert answer.json()["role"] == "operator"
        system.sdk.keys.revoke(key.key_id)
        while (answer := visitor.get("/api/session")).status_code == 200:
            time.sleep(0.1)
        assert answer.status_code == 401
        assert "was revoked" in answer.json()["error"]["message"]
        assert visitor.get("/api/models").status_code == 401
        assert visitor.delete("/api/session").status_code == 204
        assert visitor.get("/api/session").json()["guest"]


def test_a_header_counts_before_the_cookie(page: Page) -> None:
    """So that a proxy in front can sign people in; a password for the proxy is not for us."""
    with page.signed_in("viewer") as visitor:
        told = visitor.get("/api/session", headers=bearer_of("operator")).json()
        assert (told["role"], told["signed_in"]) == ("operator", True)
        told = visitor.get("/api/session", headers={"authorization": "Basic eDp5"}).json()
        assert told["role"] == "viewer"
        wrong = visitor.get("/api/session", headers={"authorization": "Bearer nobody"})
        assert wrong.status_code == 401


def test_so_many_wrong_keys_and_no_more(system: System, tmp_path: Path) -> None:
    """Then even a right one waits; by the address that a trusted proxy names, not by its own."""
    settings = {"sign_in_failures_per_minute": "3", "trusted_proxies": f'["{HOST}"]'}
    with page_of(tmp_path, **settings, **system.targets) as page, page.visitor() as visitor:

        def tried(key: str, address: str) -> int:
            sent = visitor.post(
                "/api/session", json={"token": key}, headers={"x-forwarded-for": address}
            )
            if sent.status_code == 429:
                assert 1 <= int(sent.headers["retry-after"]) <= 21
            return sent.status_code

        guesses = [tried(f"guess-{n}", "2001:db8::1") for n in range(4)]
        assert guesses == [401, 401, 401, 429]
        assert tried(key_of("viewer"), "2001:db8::2") == 429
        assert tried(key_of("viewer"), "203.0.113.7") == 200


def test_strangers_are_counted_as_nobodys_failure(page: Page) -> None:
    """However often the page is opened by who is not signed in, it says 401, and lets others in."""
    with page.visitor() as visitor:
        for _ in range(60):
            answer = visitor.get("/api/session")
            assert answer.status_code == 401
        assert "sign in" in answer.json()["error"]["message"]
        assert visitor.post("/api/session", json={"token": key_of("viewer")}).is_success


# Roles


@pytest.mark.parametrize(
    ("method", "path", "body", "needed"),
    [
        ("GET", "/api/session", None, "viewer"),
        ("GET", "/api/models", None, "viewer"),
        ("GET", "/api/models/nuclei@1", None, "viewer"),
        ("GET", "/api/datasets", None, "viewer"),
        ("GET", "/api/jobs", None, "viewer"),
        ("PUT", "/api/models/nuclei/aliases/tried", {"reference": "nuclei@1"}, "operator"),
        ("DELETE", "/api/models/nuclei/aliases/tried", None, "operator"),
        ("POST", "/api/jobs", YAML, "operator"),
    ],
)
def test_each_role_may_what_it_may(
    programs: dict[str, httpx.Client], method: str, path: str, body: Any, needed: str
) -> None:
    """The services decide; the page says it in words without names of methods."""
    ranks = ("", *ROLES)
    for role in ranks:
        if method == "DELETE":
            put = programs["admin"].put(path, json={"reference": "nuclei@1"})
            assert put.status_code == 200, put.text
        sent = {"content": body} if isinstance(body, str) else {"json": body} if body else {}
        answer = programs[role].request(method, path, **sent)
        if not role:
            assert answer.status_code == 401
        elif ranks.index(role) < ranks.index(needed):
            assert answer.status_code == 403
            words = f"this needs the role {needed}; yours is {role}"
            assert answer.json()["error"]["message"] == words
        else:
            assert answer.is_success, answer.text


# Models


def test_models_and_their_aliases(programs: dict[str, httpx.Client], system: System) -> None:
    """An alias is pointed elsewhere and removed, as with the SDK."""
    operator = programs["operator"]
    listed = operator.get("/api/models").json()
    assert [each["reference"] for each in listed["models"]] == ["nuclei@2", "nuclei@1"]
    assert listed["next_page_token"] == ""
    path = "/api/models/nuclei/aliases/production"
    moved = operator.put(path, json={"reference": "nuclei@2"}).json()
    assert moved["model"]["aliases"] == ["production"]
    assert system.sdk.models.get("nuclei@production").reference == "nuclei@2"
    found = operator.get("/api/models/nuclei@production").json()["model"]
    assert found["reference"] == "nuclei@2"
    assert operator.delete(path).status_code == 204
    assert operator.get("/api/models/nuclei@production").status_code == 404


@pytest.mark.parametrize("reference", ["others@1", 1, None])
def test_an_alias_stays_within_its_model(
    programs: dict[str, httpx.Client], reference: object
) -> None:
    """What the address says and what the body says are one."""
    answer = programs["operator"].put(
        "/api/models/nuclei/aliases/production", json={"reference": reference}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"] == [
        {"field": "reference", "message": "must be a version such as nuclei@1"}
    ]


def test_datasets(programs: dict[str, httpx.Client]) -> None:
    """What jobs can learn from."""
    (found,) = programs["viewer"].get("/api/datasets").json()["datasets"]
    assert found["reference"] == "discs@1"


# Jobs


def test_a_job_from_its_text(programs: dict[str, httpx.Client], system: System) -> None:
    """One request id makes one job, which is found, listed by its state, and cancelled."""
    operator, request = programs["operator"], {"request_id": str(uuid.uuid4())}
    first = operator.post("/api/jobs", params=request, content=YAML)
    assert first.status_code == 201, first.text
    job = first.json()["job"]
    assert job["supervised"]["training"]["steps"] == 5
    assert job["request_id"] == request["request_id"]
    again = operator.post("/api/jobs", params=request, content=YAML).json()["job"]
    assert again["name"] == job["name"]
    path = f"/api/{job['name']}"
    assert operator.get(path).json()["job"]["state"] == "JOB_STATE_QUEUED"
    queued = operator.get("/api/jobs", params={"state": ["queued", "running"]}).json()["jobs"]
    assert job["name"] in [each["name"] for each in queued]
    cancelled = operator.post(f"{path}/cancel").json()["job"]
    assert cancelled["state"] == "JOB_STATE_CANCELLED"
    assert system.sdk.jobs.get(job["name"]).end_time
    gone = operator.get("/api/jobs", params={"state": "queued"}).json()["jobs"]
    assert job["name"] not in [each["name"] for each in gone]
    assert operator.post(f"{path}/cancel").status_code in {200, 409}


def test_what_happened_to_a_job(programs: dict[str, httpx.Client]) -> None:
    """Its events come to an end with it; one that does not exist fails within the stream."""
    operator = programs["operator"]
    name = operator.post("/api/jobs", content=YAML).json()["job"]["name"]
    operator.post(f"/api/{name}/cancel")
    told = operator.get(f"/api/{name}/events")
    assert told.headers["content-type"].startswith("text/event-stream")
    blocks = told.text.strip().split("\n\n")
    assert '"state": "JOB_STATE_CANCELLED"' in blocks[-2]
    assert blocks[-1] == "event: end\ndata: {}"
    failed = operator.get("/api/jobs/0123456789abcdef/events").text
    assert failed.startswith("event: failure\n")
    assert "does not exist" in json.loads(failed.partition("data: ")[2])["error"]["message"]


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("a: [1", "job", "line 1"),
        ("- a", "job", "must be a mapping"),
        ("", "job", "must be a mapping"),
        ("supervised: {dataset: discs, steps: 5}", "job.supervised.steps", "is not a field"),
        (YAML.replace("5", "0"), "job.supervised.training.steps", "greater than or equal"),
        ("display_name: x", "job.spec", "set one of"),
    ],
)
def test_a_text_that_is_no_job(
    programs: dict[str, httpx.Client], text: str, field: str, words: str
) -> None:
    """Each wrong field is named, and a wrong line by its number."""
    answer = programs["operator"].post("/api/jobs", content=text)
    assert answer.status_code == 400, answer.text
    (found,) = answer.json()["error"]["fields"]
    assert found["field"] == field
    assert words in found["message"]
    assert "unicode string" not in found["message"]


def test_a_job_of_what_is_not_there(programs: dict[str, httpx.Client]) -> None:
    """The field that names it is told, as of any other mistake."""
    text = YAML.replace("discs", "nowhere")
    answer = programs["operator"].post("/api/jobs", content=text)
    assert answer.status_code == 404
    assert answer.json()["error"]["fields"] == [
        {"field": "job.supervised.dataset", "message": "dataset nowhere does not exist"}
    ]


def test_bytes_that_are_no_text(programs: dict[str, httpx.Client]) -> None:
    """They are refused; and so is a text that is too long."""
    operator = programs["operator"]
    answer = operator.post("/api/jobs", content=b"a: \xff")
    assert answer.status_code == 400
    assert "not UTF-8 at byte 3" in answer.json()["error"]["message"]
    assert operator.post("/api/jobs", content=b"#" * (2 << 20)).status_code == 413


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/jobs?state=sleeping", 400),
        ("/api/jobs?page_token=nonsense", 400),
        ("/api/jobs/0123456789abcdef", 404),
        ("/api/jobs/0123456789abcdef/report", 404),
        ("/api/models/nobody", 404),
    ],
)
def test_what_is_not_there(programs: dict[str, httpx.Client], path: str, status: int) -> None:
    """A wrong question and a thing that is not there are told apart."""
    answer = programs["viewer"].get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
