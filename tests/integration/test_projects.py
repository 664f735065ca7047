"""Projects on real services: nothing of one is seen, used or changed by another's keys."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest

from histill.api.access.v1 import access_service_pb2 as access_pb
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.registry.v1 import dataset_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.client.models import announce
from histill.core.errors import HistillError, NotFoundError
from histill.core.projects import DEFAULT
from methods import Outcome, call, methods_of
from pictures import write_dataset
from tenant_cases import (
    ACCESS,
    DARK,
    KEYS,
    LISTING,
    MAKING,
    NAMING,
    OPEN,
    PNG,
    REGISTRY,
    SEGMENTATION,
    SILENT,
    infer,
    large,
    nobodys,
    raw,
    spellings,
)
from tenants import (
    ACME,
    DARK_IS,
    PROJECTS,
    ROLES,
    SECRETS,
    ZENITH,
    Tenancy,
    key_of,
    tenancy,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    from conftest import S3, Valkey

ATTACKS = [
    (owner, other) for owner in SECRETS for other in PROJECTS if other != owner
]  # whoever is not the owner


@pytest.fixture(scope="module")
def there(s3: S3, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenancy]:
    """The services, with the owners' models in memory and counted."""
    with tenancy(s3, valkey, tmp_path_factory.mktemp("projects")) as running:
        for owner, name in SECRETS.items():
            for reference in spellings(name)[:3]:
                found = ask(running, SEGMENTATION + "Segment", [raw(reference)], owner)
                assert found.code is grpc.StatusCode.OK, found
        yield running


def ask(
    there: Tenancy, path: str, requests: list[Message], project: str, role: str = "admin"
) -> Outcome:
    process = "registry" if path.startswith((REGISTRY, ACCESS)) else "inference"
    sent = [request.SerializeToString() for request in requests]
    return call(there.channels[process], path, sent, key=key_of(project, role))


def test_no_method_is_left_out() -> None:
    """A new method fails here until it has its case."""
    here = {*NAMING, *LISTING, *MAKING, *KEYS, *SILENT}
    every = {each.path for process in ("registry", "inference") for each in methods_of(process)}
    assert here == every


@pytest.mark.parametrize(("owner", "other"), ATTACKS)
@pytest.mark.parametrize("path", NAMING)
def test_anothers_is_not_found(there: Tenancy, path: str, owner: str, other: str) -> None:
    """Status, words, details and answers are, byte for byte, those for a name of nobody."""
    before = there.kept(*PROJECTS)
    name = SECRETS[owner]
    asks = zip(NAMING[path](name), NAMING[path](nobodys(name)), strict=True)
    for hidden, nowhere in asks:
        for role in ROLES:
            found = ask(there, path, hidden, other, role)
            absent = ask(there, path, nowhere, other, role)
            assert renamed(found, name) == absent
            assert not leaks(found, name, asked=True)
        if path.endswith("ModelStreamInfer"):
            assert found.code is grpc.StatusCode.OK
            for answer in found.answers:
                told = v2.ModelStreamInferResponse.FromString(answer)
                assert told.error_message.startswith("[NOT_FOUND] model")
        else:
            assert found.code is grpc.StatusCode.NOT_FOUND
    assert there.kept(*PROJECTS) == before


@pytest.mark.parametrize("owner", SECRETS)
@pytest.mark.parametrize("path", [each for each in NAMING if "Delete" not in each])
def test_the_owner_finds_it(there: Tenancy, path: str, owner: str) -> None:
    """The same requests with the owner's key: were they wrong, the test before would be empty."""
    first = NAMING[path](SECRETS[owner])[0]
    found = ask(there, path, first, owner)
    assert found.code is grpc.StatusCode.OK, found
    assert not any(b"NOT_FOUND" in answer for answer in found.answers)
    if path.endswith("SetAlias"):
        request = registry_pb.DeleteAliasRequest(model_name=SECRETS[owner], alias="mine")
        assert ask(there, REGISTRY + "DeleteAlias", [request], owner).code is grpc.StatusCode.OK
    if path.endswith("DeleteAlias"):
        again = registry_pb.SetAliasRequest(reference=f"{SECRETS[owner]}@1", alias="chosen")
        assert ask(there, REGISTRY + "SetAlias", [again], owner).code is grpc.StatusCode.OK
    if path.endswith("Unload"):
        assert ask(there, SEGMENTATION + "Segment", [raw(SECRETS[owner])], owner).answers


@pytest.mark.parametrize(("owner", "other"), ATTACKS)
@pytest.mark.parametrize("path", LISTING)
def test_anothers_is_not_listed(there: Tenancy, path: str, owner: str, other: str) -> None:
    """Neither its name nor that there is anything; asked for, it is as if it were not."""
    name = SECRETS[owner]
    for asked, nowhere in zip(LISTING[path](name), LISTING[path](nobodys(name)), strict=True):
        for role in ROLES:
            found = ask(there, path, asked, other, role)
            assert found.code is grpc.StatusCode.OK
            assert not leaks(found, name)
            assert found.answers == ask(there, path, nowhere, other, role).answers
    mine = ask(there, path, LISTING[path](name)[0], owner)
    assert name.encode() in mine.all_bytes()


@pytest.mark.parametrize("path", SILENT)
def test_what_names_nothing_says_the_same_to_all(there: Tenancy, path: str) -> None:
    """The state of the server holds no project's names, and is one for all."""
    found = [ask(there, path, [SILENT[path]], project) for project in PROJECTS]
    assert found[0].code is grpc.StatusCode.OK
    assert found.count(found[0]) == len(found)


@pytest.mark.parametrize("project", PROJECTS)
def test_one_name_answers_with_each_projects_weights(there: Tenancy, project: str) -> None:
    """By every method that segments, ``nuclei`` is the caller's own."""
    expected = bytes([DARK_IS[project]]) * (DARK.shape[0] * DARK.shape[1])
    for reference in ("nuclei", "nuclei@1", "nuclei@best"):
        [answer] = ask(there, SEGMENTATION + "Segment", [raw(reference)], project).answers
        assert pb.SegmentResponse.FromString(answer).mask == expected
        parts = ask(there, SEGMENTATION + "SegmentLarge", large(reference), project).answers
        found = [pb.SegmentLargeResponse.FromString(each) for each in parts]
        assert b"".join(each.mask_chunk for each in found) == expected
    [answer] = ask(there, OPEN + "ModelInfer", [infer("nuclei")], project).answers
    assert v2.ModelInferResponse.FromString(answer).raw_output_contents[0] == expected
    [answer] = ask(there, OPEN + "ModelStreamInfer", [infer("nuclei", "1")], project).answers
    streamed = v2.ModelStreamInferResponse.FromString(answer).infer_response
    assert streamed.raw_output_contents[0] == expected


def test_requests_of_projects_are_not_joined(there: Tenancy) -> None:
    """Many at once, where batches are made: every answer is from the caller's own weights."""

    def one(number: int) -> tuple[int, set[int]]:
        project = PROJECTS[number % len(PROJECTS)]
        [answer] = ask(there, SEGMENTATION + "Segment", [raw("nuclei")], project).answers
        return DARK_IS[project], set(pb.SegmentResponse.FromString(answer).mask)

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        for expected, found in threads.map(one, range(120)):
            assert found == {expected}


def test_an_alias_points_within_its_project(there: Tenancy, tmp_path: Path) -> None:
    """A version and an alias that one project makes change nothing for the others."""
    path, header = weights(tmp_path)
    header.model_name = "nuclei"
    with there.client(ZENITH) as zenith, there.client(ACME) as acme:
        made = zenith.models.push(header, [path])
        assert made.reference == "nuclei@2"
        zenith.models.alias("nuclei@2", "best")
        assert acme.models.get("nuclei@best").reference == "nuclei@1"
        assert [each.reference for each in acme.models.list(name="nuclei")] == ["nuclei@1"]
        zenith.models.alias("nuclei@1", "best")
        zenith.models.delete("nuclei@2")


@pytest.mark.parametrize("other", [ZENITH, DEFAULT])
def test_an_upload_takes_a_name_that_another_has(
    there: Tenancy, tmp_path: Path, other: str
) -> None:
    """It is the first of its project, whose number tells nothing of others'; theirs stay."""
    before = there.kept(ACME)
    path, header = weights(tmp_path)
    names = {"models": "secret", "datasets": "secret"}
    with there.client(other) as client:
        header.model_name = names["models"]
        assert client.models.push(header, [path]).reference == "secret@1"
        assert (
            client.datasets.push(write_dataset(tmp_path / "data"), name=names["datasets"]).reference
            == "secret@1"
        )
        assert client.models.get("secret@1").files[0].sha256 == sha256(path)
        with pytest.raises(NotFoundError, match="secret@2 does not exist"):
            client.models.get("secret@2")
        client.models.delete("secret@1")
        client.datasets.delete("secret@1")
    assert there.kept(ACME) == before


@pytest.mark.parametrize("path", MAKING)
def test_an_upload_that_breaks_off_tells_nothing(there: Tenancy, path: str, tmp_path: Path) -> None:
    """Whether a name is taken elsewhere cannot be read off a refusal."""
    file, header = weights(tmp_path)

    def begun(name: str) -> list[Message]:
        if path.endswith("UploadModel"):
            header.model_name = name
            sent = registry_pb.ModelHeader.FromString(header.SerializeToString())
            sent.files.extend(announce([file]))
            return [registry_pb.UploadModelRequest(header=sent)]
        data = registry_pb.DatasetHeader(
            dataset_name=name,
            classes=["a", "b"],
            channels=3,
            splits={"train": 1, "val": 1},
            label_kind=dataset_pb2.LABEL_KIND_SEMANTIC,
        )
        data.files.extend(announce([file]))
        return [registry_pb.UploadDatasetRequest(header=data)]

    for role in ROLES:
        found = ask(there, path, begun("secret"), ZENITH, role)
        assert renamed(found, "secret") == ask(there, path, begun(nobodys("secret")), ZENITH, role)
    assert found.code is grpc.StatusCode.DATA_LOSS


def test_keys_are_a_projects_own(there: Tenancy) -> None:
    """An admin makes, lists and ends keys of one project, and learns of no other's."""
    role = access_pb.KEY_ROLE_VIEWER
    make: list[Message] = [access_pb.CreateKeyRequest(role=role, description="secret")]
    [made] = ask(there, ACCESS + "CreateKey", make, ACME).answers
    key = access_pb.CreateKeyResponse.FromString(made).key
    assert key.project == ACME

    listing: list[Message] = [access_pb.ListKeysRequest()]
    assert key.key_id.encode() in ask(there, ACCESS + "ListKeys", listing, ACME).all_bytes()
    seen = ask(there, ACCESS + "ListKeys", listing, ZENITH)
    assert seen.code is grpc.StatusCode.OK
    assert not leaks(seen, key.key_id)

    nobodys_key = key.key_id[:-1] + ("0" if key.key_id[-1] != "0" else "1")
    asks: list[tuple[str, str, Callable[[str], Message]]] = [
        (key.key_id, nobodys_key, lambda at: access_pb.RevokeKeyRequest(key_id=at)),
        (key.key_id, nobodys_key, lambda at: access_pb.ListKeysRequest(page_token=at)),
        (ACME, "none", lambda at: access_pb.ListKeysRequest(project=at)),
        (ACME, "none", lambda at: access_pb.CreateKeyRequest(role=role, project=at)),
    ]
    for hidden, nowhere, request in asks:
        path = ACCESS + type(request(hidden)).__name__.removesuffix("Request")
        for rank in ROLES:
            found = ask(there, path, [request(hidden)], ZENITH, rank)
            absent = ask(there, path, [request(nowhere)], ZENITH, rank)
            assert found.code is not grpc.StatusCode.OK
            assert renamed(found, hidden, nowhere) == absent
    assert ask(there, ACCESS + "ListKeys", listing, ACME).answers


def test_who_calls_is_told_of_themselves_only(there: Tenancy) -> None:
    """Id, role and project of the key that asks, whatever other keys there are."""
    for project in PROJECTS:
        for role in ROLES:
            request: list[Message] = [access_pb.GetCallerRequest()]
            [answer] = ask(there, ACCESS + "GetCaller", request, project, role).answers
            told = access_pb.GetCallerResponse.FromString(answer)
            assert told.project == project
            assert access_pb.KeyRole.Name(told.role) == f"KEY_ROLE_{role.upper()}"


def test_unloading_leaves_anothers_in_memory(there: Tenancy) -> None:
    """Also where the names are the same, and where the other's is preloaded."""
    unload = [v2.RepositoryModelUnloadRequest(model_name="nuclei")]
    ready: list[Message] = [v2.RepositoryIndexRequest(ready=True)]
    ask(there, SEGMENTATION + "Segment", [raw("nuclei")], ZENITH)
    before = ask(there, OPEN + "RepositoryIndex", ready, ACME).answers
    for expected in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND):
        assert ask(there, OPEN + "RepositoryModelUnload", [*unload], ZENITH).code is expected
    assert ask(there, OPEN + "RepositoryIndex", ready, ACME).answers == before
    assert ask(there, OPEN + "RepositoryIndex", ready, ZENITH).answers == (b"",)
    [listed] = ask(there, SEGMENTATION + "ListModels", [pb.ListModelsRequest()], ZENITH).answers
    assert [each.loaded for each in pb.ListModelsResponse.FromString(listed).models] == [False]
    assert b"nuclei" in before[0]
    mine = ask(there, OPEN + "RepositoryModelUnload", [*unload], ACME)
    assert mine.code is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("owner", SECRETS)
def test_the_sdk_sees_its_project(there: Tenancy, owner: str) -> None:
    """What it lists is the key's project's, and errors are those for what is not there."""
    name = SECRETS[owner]
    with there.client(owner) as mine, there.client(ZENITH) as other:
        assert f"{name}@1" in {each.reference for each in mine.models.list()}
        assert {each.reference for each in other.models.list()} == {"nuclei@1"}
        assert list(other.datasets.list()) == []
        for asked in (other.models.get, other.datasets.get, other.models.delete):
            assert words(asked, f"{name}@1") == words(asked, f"{nobodys(name)}@1")
        assert words(lambda at: other.segment(PNG, model=at), name) == words(
            lambda at: other.segment(PNG, model=at), nobodys(name)
        )


def test_the_command_line_sees_its_project(there: Tenancy, tmp_path: Path) -> None:
    """``histill models ls`` and ``get`` know the key's project and no other."""

    def run(project: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {
            f"HISTILL_CLIENT__{name.upper()}": value
            for name, value in there.endpoints(project).items()
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
        return subprocess.run(
            [sys.executable, "-m", "histill.cli.main", "models", *arguments],
            env=clean | variables | {"HISTILL_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    listed = run(ACME, "ls", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "secret" in listed.stdout
    assert "secret" not in run(ZENITH, "ls", "--json").stdout
    hidden = run(ZENITH, "get", "secret", "--out", str(tmp_path / "a"))
    nowhere = run(ZENITH, "get", nobodys("secret"), "--out", str(tmp_path / "a"))
    assert hidden.returncode == nowhere.returncode != 0
    assert hidden.stderr.replace("secret", nobodys("secret")) == nowhere.stderr


def test_operators_see_projects_in_metrics(there: Tenancy) -> None:
    """Labels hold project and model, and no name that was only asked for."""
    ask(there, SEGMENTATION + "Segment", [raw("never-there")], ZENITH)
    ask(there, SEGMENTATION + "Segment", [raw("nuclei")], ACME)
    url = f"http://127.0.0.1:{there.inference.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    assert 'model="nuclei",project="acme"' in text
    assert "never-there" not in text
    assert 'model="secret",project="zenith"' not in text


def renamed(found: Outcome, name: str, to: str = "") -> Outcome:
    """The same, had it been about nobody's name, which is as long."""
    to = to or nobodys(name)
    old, new = name.encode(), to.encode()
    return Outcome(
        found.code,
        found.details.replace(name, to),
        tuple((key, value.replace(old, new)) for key, value in found.trailers),
        tuple(answer.replace(old, new) for answer in found.answers),
    )


def leaks(found: Outcome, name: str, *, asked: bool = False) -> list[str]:
    """What of another project is in an answer; its name may be where it was asked for."""
    words = [ACME, ZENITH, "projects/", *([] if asked else [name])]
    return [word for word in words if word.encode() in found.all_bytes()]


def words(asked: Callable[[str], object], name: str) -> str:
    """Of the error, without the name."""
    with pytest.raises(HistillError) as caught:
        asked(name)
    assert isinstance(caught.value, NotFoundError)
    return str(caught.value).replace(name.partition("@")[0], "")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
