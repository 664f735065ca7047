"""``histill setup``: against an API server over HTTPS, an S3 server, and services of its keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import trustme

import kubernetes_api
from conftest import end, run_s3
from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.core.api_keys import digest
from histill.core.errors import UnauthenticatedError
from histill.core.first_keys import HOLDERS
from histill.core.settings import load
from histill.inference.settings import InferenceSettings
from histill.jobs.settings import JobsSettings
from histill.registry.settings import RegistrySettings
from processes import s3_environment
from services import client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey

# How an installation hands keys to its processes.
SETTINGS = {
    "api-keys": "HISTILL_AUTH__API_KEYS",
    "seal": "HISTILL_AUTH__SEAL",
    "audit-key": "HISTILL_AUDIT__KEY",
    "redis-url": "HISTILL_REDIS__URL",
    "s3-access-key": "HISTILL_S3__ACCESS_KEY",
    "s3-secret-key": "HISTILL_S3__SECRET_KEY",
}
SERVERS = ("--bundled-redis", "redis:6379", "--bundled-s3")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[kubernetes_api.Api]:
    """An API server with an empty Secret that the service account may fill."""
    with kubernetes_api.serving(tmp_path) as api:
        api.add("keys")
        yield api


def command(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HISTILL_", "KUBERNETES_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "histill.cli.main", "setup", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | variables,
    )


def in_pod(api: kubernetes_api.Api) -> dict[str, str]:
    return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}


def start(api: kubernetes_api.Api, *arguments: str, name: str = "keys") -> subprocess.Popen[str]:
    own = ("secrets", "--secret", name, "--account", str(api.account))
    return command(*own, *arguments, **in_pod(api))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and all that it printed on one line."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, " ".join((out + err).split())


def test_an_empty_secret_is_filled_once(api: kubernetes_api.Api) -> None:
    """Names are told and values are not; a second run changes nothing, not even its version."""
    code, told = ended(start(api, *SERVERS))
    values = api.values("keys")
    assert code == 0, told
    assert values.keys() == {*HOLDERS, *SETTINGS, "redis-password"} - {"web-key"}
    assert all(name in told for name in values)
    assert not any(value in told for value in values.values())
    version = api.version("keys")
    assert ended(start(api, *SERVERS)) == (
        0,
        "Secret keys in ward: every key is there; nothing was changed",
    )
    assert (api.values("keys"), api.version("keys")) == (values, version)


def test_what_somebody_wrote_stays_and_what_follows_is_renewed(api: kubernetes_api.Api) -> None:
    """A key rotated by hand is kept, its hash renewed, and other keys of the Secret are left."""
    ended(start(api, "--guests"))
    before = api.values("keys")
    api.put("keys", "admin-key", "rotated")
    api.put("keys", "password", "of something else")
    api.put("keys", "seal", None)
    process = start(api, "--json")
    out = process.communicate(timeout=60)[0]
    assert json.loads(out) == {
        "secret": "keys",
        "namespace": "ward",
        "made": ["seal"],
        "renewed": ["api-keys"],
    }
    after = api.values("keys")
    assert (after["admin-key"], after["password"]) == ("rotated", "of something else")
    assert after["web-key"] == before["web-key"]
    hashes = {key["id"]: key["sha256"] for key in json.loads(after["api-keys"])}
    assert hashes == {name: digest(after[name]) for name in HOLDERS}


def test_two_at_once_make_one_set_of_keys(api: kubernetes_api.Api) -> None:
    """Both read the empty Secret; the later one is refused, reads again and keeps the other's."""
    meeting, reads = threading.Barrier(2), iter(range(100))

    def meet() -> None:
        if next(reads) < 2:
            meeting.wait(30)

    api.on_read = meet
    both = [start(api, "--json"), start(api, "--json")]
    outs = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(out["made"]) for out in outs) == [0, 5]
    assert api.version("keys") == "2"
    methods = [method for method, _ in api.requests]
    assert (methods.count("GET"), methods.count("PATCH")) == (3, 2)


def test_an_api_server_that_is_away_is_waited_for(api: kubernetes_api.Api) -> None:
    """While it fails or is overloaded; when it stays away the wait ends with a sentence."""
    api.failures = [503, 429]
    code, told = ended(start(api))
    assert (code, "waiting" in told) == (0, True)
    assert len(api.values("keys")) == 5
    api.failures = [500] * 100
    code, told = ended(start(api, "--wait-s", "1.5"))
    assert (code, "answers with 500; waited 1.5 s" in told) == (1, True), told


def test_nobody_there_is_waited_for_too(tmp_path: Path) -> None:
    """A port on which nothing listens is an API server that is away."""
    with kubernetes_api.serving(tmp_path) as api:
        pass
    code, told = ended(start(api, "--wait-s", "0"))
    assert (code, "does not answer" in told) == (1, True), told


@pytest.mark.parametrize(("allowed", "verb"), [((), "get"), ((("get", "ward", "keys"),), "patch")])
def test_a_missing_rule_is_told(
    api: kubernetes_api.Api, allowed: tuple[tuple[str, str, str], ...], verb: str
) -> None:
    """With what the Role must hold; nothing is waited for."""
    api.allowed = set(allowed)
    started = time.monotonic()
    code, told = ended(start(api))
    assert (code, f"may not {verb} the Secret keys in ward" in told) == (1, True), told
    assert "resourceNames: [keys], verbs: [get, patch]" in told
    assert time.monotonic() - started < 60  # of 120 that it would wait
    assert api.values("keys") == {}


def test_a_secret_that_is_not_there_is_named(api: kubernetes_api.Api) -> None:
    """With the command that makes it."""
    api.allowed.add(("get", "ward", "none"))
    code, told = ended(start(api, name="none"))
    assert (code, "there is no Secret none in ward" in told) == (1, True), told
    assert "kubectl -n ward create secret generic none" in told


def test_another_namespace_is_asked_for_by_its_name(api: kubernetes_api.Api) -> None:
    """The account's own is only the default."""
    code, told = ended(start(api, "--namespace", "other"))
    assert (code, "the Secret keys in other" in told) == (1, True), told
    assert api.requests == [("GET", "/api/v1/namespaces/other/secrets/keys")]


def test_an_immutable_secret_is_said_to_be_one(api: kubernetes_api.Api) -> None:
    """The server takes no patch of it."""
    api.secrets["ward", "keys"]["immutable"] = True
    code, told = ended(start(api))
    assert (code, "is it immutable?" in told) == (1, True), told


def test_a_token_that_is_not_taken_is_named(api: kubernetes_api.Api) -> None:
    """By its file, and without its words."""
    (api.account / "token").write_text("of-another-cluster")
    code, told = ended(start(api))
    assert (code, "does not take the token" in told) == (1, True), told
    assert "of-another-cluster" not in told


@pytest.mark.parametrize(
    "token", [b"of-another\ncluster", b"of-another\xffcluster", "of-anöther".encode(), b"", b"\n"]
)
def test_a_file_that_holds_no_token_is_named(api: kubernetes_api.Api, token: bytes) -> None:
    """Not what it holds, in whatever words or traceback; nobody is asked."""
    (api.account / "token").write_bytes(token)
    code, told = ended(start(api))
    assert (code, f"{api.account}/token holds no token" in told) == (2, True), told
    assert "of-an" not in told
    assert api.requests == []


@pytest.mark.parametrize("content", ["no certificate", ""])
def test_a_file_that_holds_no_authority_is_named(api: kubernetes_api.Api, content: str) -> None:
    """At once: no wait makes a certificate of it."""
    (api.account / "ca.crt").write_text(content)
    code, told = ended(start(api))
    assert (code, "ca.crt holds no certificate in PEM" in told) == (2, True), told
    assert "waiting" not in told


def test_a_server_of_another_authority_hears_no_token(tmp_path: Path) -> None:
    """It is not asked at all, and the file of the authority is named."""
    with kubernetes_api.serving(tmp_path, authority=trustme.CA()) as api:
        api.add("keys")
        code, told = ended(start(api))
    assert (code, "ca.crt must be the authority of this cluster" in told) == (2, True), told
    assert api.requests == []


def test_outside_of_a_cluster_it_says_so(api: kubernetes_api.Api, tmp_path: Path) -> None:
    """Without the variables of a pod, or without the files of a service account."""
    code, told = ended(command("secrets", "--secret", "keys", "--account", str(api.account)))
    assert (code, "this is no pod with a service account" in told) == (2, True), told
    nowhere = ("secrets", "--secret", "keys", "--account", str(tmp_path / "no"))
    code, told = ended(command(*nowhere, **in_pod(api)))
    assert (code, "this is no pod with a service account" in told) == (2, True), told


@pytest.mark.parametrize("name", ["", "../keys", "Keys", "a/b"])
def test_names_that_would_lead_elsewhere_are_refused(api: kubernetes_api.Api, name: str) -> None:
    """Before anything is asked."""
    code, told = ended(start(api, name=name))
    assert (code, "--secret" in told, api.requests) == (2, True, []), told


def test_services_start_with_the_keys_and_know_their_holders(
    api: kubernetes_api.Api, s3: S3, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every service takes the settings, and a running one lets in the admin key and no other."""
    assert ended(start(api, *SERVERS))[0] == 0
    values = api.values("keys")
    given = {variable: values[key] for key, variable in SETTINGS.items()}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    for kind in (JobsSettings, RegistrySettings, InferenceSettings):
        settings = load(kind)
        assert settings.redis.url.get_secret_value() == values["redis-url"]
        assert settings.auth.seal_bytes == values["seal"].encode()
        assert settings.audit.key_bytes == values["audit-key"].encode()
        assert settings.s3.secret_key.get_secret_value() == values["s3-secret-key"]
    own = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "first-keys"}
    with service("registry", tmp_path, given | own) as registry:
        registry.wait()
        with client_of(registry=registry, key=values["admin-key"]) as client:
            assert list(client.datasets.list()) == []
            assert list(client.keys.list()) == []  # for admins, with a seal
        with (
            client_of(registry=registry, key=values["seal"]) as client,
            pytest.raises(UnauthenticatedError),
        ):
            list(client.datasets.list())


def test_a_bucket_is_made_once(s3: S3) -> None:
    """And one that is there is fine."""
    own = s3_environment(s3.settings, bucket="made-by-setup")
    assert ended(command("bucket", **own))[1].endswith(" was made")
    S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": "made-by-setup"})).ping()
    assert ended(command("bucket", **own))[1].endswith(" is there")
    process = command("bucket", "--json", **own)
    assert json.loads(process.communicate(timeout=60)[0])["made"] is False


def test_an_s3_server_is_waited_for(s3: S3, tmp_path: Path) -> None:
    """One that comes later is found; one that does not come ends the wait with a sentence."""
    port = free_port()
    there = s3.settings.model_copy(update={"endpoint": f"127.0.0.1:{port}"})
    own = s3_environment(there, bucket="later")
    code, told = ended(command("bucket", "--wait-s", "0", **own))
    assert (code, "HISTILL_S3__ENDPOINT" in told) == (1, True), told
    process = command("bucket", "--wait-s", "60", **own)
    assert process.stderr
    assert "waiting" in process.stderr.readline()
    late = run_s3(tmp_path, port=port)
    code, told = ended(process)
    end(late.server)
    assert (code, "bucket later" in told) == (0, True), told


def test_wrong_s3_keys_are_not_waited_with(s3: S3) -> None:
    """No wait makes them right; the variables are named."""
    own = s3_environment(s3.settings, bucket="refused") | {"HISTILL_S3__SECRET_KEY": "wrong"}
    code, told = ended(command("bucket", "--wait-s", "3600", **own))
    assert (code, "HISTILL_S3__SECRET_KEY" in told, "waiting" in told) == (1, True, False), told


@contextmanager
def store_that_makes_no_bucket(*, there: bool) -> Iterator[str]:
    """An S3 server whose keys may look at a bucket and not make one; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if there else 404)
            self.end_headers()

        def do_PUT(self) -> None:
            body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            self.send_response(403)
            self.send_header("content-type", "application/xml")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_that_may_make_no_bucket_are_enough_where_there_is_one(s3: S3) -> None:
    """Where there is none, it says who has to make it, and waits for nothing."""
    own = s3_environment(s3.settings, bucket="theirs")
    with store_that_makes_no_bucket(there=True) as endpoint:
        code, told = ended(command("bucket", **own | {"HISTILL_S3__ENDPOINT": endpoint}))
    assert (code, told.endswith(" is there")) == (0, True), told
    with store_that_makes_no_bucket(there=False) as endpoint:
        code, told = ended(command("bucket", **own | {"HISTILL_S3__ENDPOINT": endpoint}))
    assert (code, "bucket theirs does not exist" in told) == (1, True), told
    assert "may not make it (AccessDenied)" in told
    assert "waiting" not in told


def test_only_the_object_stores_variables_count(s3: S3) -> None:
    """Those of other groups may be there, right or wrong; a misspelled one of its own is named."""
    own = s3_environment(s3.settings, bucket="only-s3")
    code, _ = ended(command("bucket", **own, HISTILL_AUTH__SEAL="short"))
    assert code == 0
    code, told = ended(command("bucket", **own, HISTILL_S3__BUCKETT="x"))
    assert (code, "did you mean HISTILL_S3__BUCKET" in told) == (2, True), told
