"""``histill doctor --end-to-end`` against the running system: it works, says why not, tidies up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from importlib.metadata import packages_distributions, requires
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import job_pb2
from histill.core.audit import FOLDER as AUDIT
from histill.core.settings import S3Settings
from histill.embedded.layout import HOST, Secrets
from new_keys import wait_until_known
from services import KEY, client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from histill.client import Client
    from histill.embedded.stack import Stack
    from services import Service

# As if packages were not there, for those who try to import them and for those who look.
NOT_INSTALLED = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
# A job imports torch and measures its student: minutes where many share few cores.
pytestmark = pytest.mark.timeout(900)
STEPS = ["rights", "dataset", "job", "training", "segmentation", "removal"]


def start(variables: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    return subprocess.Popen(
        [sys.executable, "-m", "histill.cli.main", "doctor", "--end-to-end", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean | variables,
    )


def doctor(variables: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = start(variables, *arguments)
    out, err = process.communicate(timeout=400)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def of(stack: Stack) -> dict[str, str]:
    return {"HISTILL_HOME": str(stack.home)}


def kept(store: S3ObjectStore) -> set[str]:
    """Every object but the audit log's, which only grows."""
    return {key for key in store.list("") if not key.startswith(AUDIT)}


def stored(stack: Stack) -> set[str]:
    keys = Secrets.of(stack.home)
    settings = S3Settings.model_validate(
        {
            "endpoint": f"{HOST}:{stack.ports.s3}",
            "access_key": keys.s3_access_key,
            "secret_key": keys.s3_secret_key,
        }
    )
    return kept(S3ObjectStore.connect(settings))


def left_jobs(client: Client) -> list[str]:
    """Names of the command's own jobs; the servers may hold those of other tests."""
    return [job.name for job in client.jobs.list() if job.display_name.startswith("doctor-")]


def test_a_system_that_works_is_found_to_and_nothing_is_left(stack: Stack) -> None:
    """Every step is told with its outcome, and S3 holds what it held before."""
    before = stored(stack)
    code, out, err = doctor(of(stack))
    assert code == 0, out + err
    assert [line.split()[1].rstrip(":") for line in out.splitlines()][-len(STEPS) :] == STEPS
    assert out.count("ok  ") == len(out.splitlines())
    assert "segments an image of 96x64 pixels; Dice " in out
    assert "running: " in err
    assert stored(stack) == before


def test_programs_get_json(stack: Stack, client: Client) -> None:
    """One list of all checks; with --keep what was made is there, under one name."""
    code, out, _ = doctor(of(stack), "--json", "--keep")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 0, out
    assert list(checks)[-len(STEPS) :] == STEPS
    assert all(check["ok"] for check in checks.values())
    name = checks["removal"]["detail"].removeprefix("kept as ").partition(":")[0]
    assert client.datasets.get(name).splits == {"train": 8, "val": 2}
    assert client.models.get(name).dataset == f"{name}@1"
    (job,) = [job for job in client.jobs.list() if job.display_name == name]
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED


def test_a_key_that_may_not_remove_is_told_before_anything_is_made(
    stack: Stack, client: Client
) -> None:
    """A viewer's and an operator's: which role it needs, and S3 as it was."""
    for role in ("viewer", "operator"):
        _, secret = client.keys.create(role=role, description="of a test")
        wait_until_known(stack.client, secret)
        before = stored(stack)
        code, out, _ = doctor(of(stack) | {"HISTILL_CLIENT__API_KEY": secret})
        assert code == 1
        assert "FAIL rights: this check needs a key of the role admin" in out
        assert f"yours is {role}" in out
        assert "dataset" not in out
        assert stored(stack) == before


def test_the_base_install_is_enough(stack: Stack, tmp_path: Path) -> None:
    """With no package but those that histill itself needs, it does all of it."""
    wanted = {"histill"}
    todo = [each for each in map(Requirement, requires("histill") or []) if not each.marker]
    while todo:
        each = todo.pop()
        if (name := each.name.lower().replace("_", "-")) not in wanted:
            wanted.add(name)
            extras = [{"extra": extra} for extra in ("", *each.extras)]
            todo += [
                found
                for found in map(Requirement, requires(each.name) or [])
                if not found.marker or any(found.marker.evaluate(extra) for extra in extras)
            ]
    refused = sorted(
        package
        for package, names in packages_distributions().items()
        if not any(name.lower().replace("_", "-") in wanted for name in names)
    )
    assert {"torch", "redis", "skimage"} <= {*refused}
    (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED.format(refused=refused))
    where = {
        f"HISTILL_CLIENT__{name.upper()}": getattr(stack.client, name)
        for name in ("jobs", "registry", "inference")
    }
    key = {"HISTILL_CLIENT__API_KEY": stack.client.api_key.get_secret_value()}
    bare = {"PYTHONPATH": str(tmp_path)}
    code, out, err = doctor(where | key | bare)
    assert code == 0, out + err
    code, out, _ = doctor(bare | {"HISTILL_HOME": str(tmp_path)})
    assert (code, "FAIL system: nothing is running" in out) == (1, True), out


@contextmanager
def without_workers(
    folder: Path, s3: S3, valkey: Valkey, bucket: str
) -> Iterator[tuple[Client, dict[str, str], S3ObjectStore, dict[str, str]]]:
    """A client, what doctor needs, the store, and what a worker would need."""
    own = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": bucket}
    with ExitStack() as started:
        running: dict[str, Service] = {
            name: started.enter_context(service(name, folder, own))
            for name in ("registry", "jobs", "inference")
        }
        for each in running.values():
            each.wait()
        client = started.enter_context(client_of(running["jobs"], running["registry"]))
        where = {
            f"HISTILL_CLIENT__{name.upper()}": f"{HOST}:{each.port}"
            for name, each in running.items()
        }
        store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": bucket}))
        yield client, where | {"HISTILL_CLIENT__API_KEY": KEY}, store, own


def test_without_a_worker_the_wait_ends_and_nothing_is_left(
    tmp_path: Path, s3: S3, valkey: Valkey
) -> None:
    """It says what was waited for and what to look at; a worker that comes later works on."""
    with without_workers(tmp_path, s3, valkey, "no-worker") as (client, where, store, own):
        before = kept(store)
        code, out, err = doctor(where, "--wait-s", "3")
        assert code == 1
        assert "has not ended after 3 s; queued: waiting for a worker" in out
        assert "→ is a worker running?" in out
        assert "queued: waiting for a worker" in err
        assert "ok   removal" in out
        assert kept(store) == before
        assert left_jobs(client) == []
        # What the queue still holds of it harms nobody: a worker goes on to the next job.
        with service("distill", tmp_path, own | {"HISTILL_WORKER__SCRATCH": str(tmp_path)}):
            assert doctor(where)[0] == 0
        assert kept(store) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_still_removes_what_it_made(
    tmp_path: Path, s3: S3, valkey: Valkey, number: signal.Signals
) -> None:
    """By Ctrl-C, and as a pod is ended."""
    with without_workers(tmp_path, s3, valkey, f"signal-{number}") as (client, where, store, _):
        before = kept(store)
        process = start(where)
        assert process.stderr
        while "queued" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, out + err
        assert "ok   removal" in out
        assert kept(store) == before
        assert left_jobs(client) == []
