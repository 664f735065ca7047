"""The trace of a job: from who asked for it, over the queue, to the stages of its training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from collector import collecting
from free_ports import free_port
from histill.api.distillation.v1 import job_pb2
from house import House, house
from patients import CALL, NAME, SECRETS, files, write_folder
from pictures import write_dataset
from processes import HOST
from students import publish, student
from traces import found_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector import Collector, Seen

KEY = "default-admin"
CREATE = "histill.api.distillation.v1.DistillationService/CreateJob"
SEGMENT = "histill.api.segmentation.v1.SegmentationService/SegmentLarge"
CLIENT = Path(__file__).parents[1] / "traced_client.py"
SPEC: dict[str, Any] = {
    "network": {"architecture": "unet", "width": 4, "depth": 3},
    "training": {"steps": 12, "batch_size": 2, "crop_size": 32, "learning_rate": 0.01},
}
OWN_STAGES = ["fetching", "training", "validating", "exporting", "quantizing", "publishing"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where all spans of this file go."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def home(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Every process of ours, traced."""
    folder = tmp_path_factory.mktemp("house")
    traced = {"HISTILL_TRACING__ENDPOINT": collector.endpoint, "HISTILL_WORKER__THREADS": "1"}
    with house(folder, **traced) as made:
        made.start("distill", HISTILL_WORKER__HEALTH_PORT="-1")
        yield made


@pytest.fixture(scope="module")
def page(home: House) -> Iterator[httpx.Client]:
    """A client of the web page, over a service with one student."""
    inference = home.start("inference")
    publish(home.store, student(), home.folder / "tmp")
    port, metrics = free_port(), free_port()
    web = {
        f"HISTILL_WEB__{name.upper()}": f"{HOST}:{home.processes[name].port}"
        for name in ("jobs", "registry", "inference")
    }
    home.start(
        "web",
        HISTILL_WEB__PORT=str(port),
        HISTILL_WEB__METRICS_PORT=str(metrics),
        **web,
    )
    inference.wait()
    transport = httpx.HTTPTransport(retries=8)
    key = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(
        base_url=f"http://{HOST}:{port}", headers=key, transport=transport, timeout=60
    ) as client:
        yield client


def submitted(home: House, collector: Collector, folder: Path, spec: dict[str, Any]) -> str:
    """Submits a job from a program that traces itself, and waits for its end; the trace."""
    path = folder / "spec.json"
    path.write_text(json.dumps({"supervised": spec}))
    target = f"{HOST}:{home.processes['jobs'].port}"
    done = subprocess.run(
        [sys.executable, CLIENT, collector.endpoint, "submit", target, path],
        capture_output=True,
        check=True,
        env=os.environ | {"HISTILL_HOME": str(folder), "HISTILL_CLIENT__API_KEY": KEY},
        timeout=60,
    )
    with home.client(KEY) as client:
        client.jobs.wait(next(iter(client.jobs.list())).name)
    return done.stdout.decode().strip()


def children(spans: list[Seen], of: Seen) -> list[Seen]:
    """What lies in a span, in the order in which it began."""
    return sorted((each for each in spans if each.parent == of.id), key=lambda each: each.began)


def of_three(collector: Collector, trace: str) -> list[Seen]:
    """Spans of a trace, once the page, its call and the service have told theirs."""
    collector.wait(lambda all_: sum(s.trace == trace and s.kind > 1 for s in all_) == 3)
    return [each for each in collector.spans if each.trace == trace]


def test_a_job_is_one_trace_from_its_creation_to_its_publication(
    home: House, collector: Collector, tmp_path: Path
) -> None:
    """The wait for a worker and the attempt lie in CreateJob, the stages in the attempt."""
    with home.client(KEY) as client:
        client.datasets.push(write_dataset(tmp_path / "discs"), name="discs")
    spec = SPEC | {"dataset": "discs", "output_model": "traced"}
    trace = submitted(home, collector, tmp_path, spec)
    collector.wait(lambda all_: any(s.trace == trace and s.name == "job attempt" for s in all_))
    spans = [each for each in collector.spans if each.trace == trace]
    (created,) = (each for each in spans if each.name == CREATE and each.kind == 2)
    queued, attempt = children(spans, created)
    assert [created.service, queued.service, attempt.service] == [
        "histill-jobs", "histill-worker", "histill-worker",
    ]  # fmt: skip
    assert (queued.name, attempt.name) == ("job queued", "job attempt")
    assert attempt.status == 1
    assert attempt.attributes["histill.job.outcome"] == "SUCCEEDED"
    assert attempt.attributes["histill.job.attempt"] == 1
    waited = attempt.attributes["histill.job.queue_seconds"]
    assert waited == pytest.approx((queued.ended - queued.began) / 1e9, abs=0.001)
    stages = children(spans, attempt)
    assert [each.name for each in stages] == OWN_STAGES
    assert stages[1].attributes == {"histill.step": 12, "histill.steps": 12}
    ends = [each.ended for each in stages]
    assert all(a <= b.began for a, b in zip(ends, stages[1:], strict=False))

    # What the worker logs is found under the request that the jobs service logs, and the trace.
    request = created.attributes["histill.request_id"]
    lines = home.processes["distill"].log.read_text().splitlines()
    ended = json.loads(next(line for line in lines if '"event": "attempt_ended"' in line))
    assert (ended["request_id"], ended["trace_id"]) == (request, trace)
    assert f'"request_id": "{request}"' in home.processes["jobs"].log.read_text()


def test_a_failed_attempt_tells_its_kind_of_error(
    home: House, collector: Collector, tmp_path: Path
) -> None:
    """By a word of ours, and nothing of the message."""
    with home.client(KEY) as client:
        client.datasets.push(write_dataset(tmp_path / "spoilt"), name="spoilt")
    shard = next(key for key in home.store.list("datasets/spoilt/1/") if key.endswith(".tar"))
    home.store.put(shard, b"another")
    spec = SPEC | {"dataset": "spoilt", "output_model": "never"}
    trace = submitted(home, collector, tmp_path, spec)
    collector.wait(lambda all_: any(s.trace == trace and s.name == "job attempt" for s in all_))
    attempt = next(s for s in collector.spans if s.trace == trace and s.name == "job attempt")
    assert attempt.attributes["histill.job.outcome"] == "FAILED"
    assert (attempt.status, attempt.attributes["error.type"]) == (2, "CorruptArtifactError")
    (fetching,) = children([s for s in collector.spans if s.trace == trace], attempt)
    assert fetching.name == "fetching"


def test_a_request_of_the_page_is_one_trace(page: httpx.Client, collector: Collector) -> None:
    """From the proxy that sends a traceparent over the page's calls to the services' work."""
    for number, call in enumerate(("segment", "jobs", "models", "served")):
        trace = f"{number + 1:032x}"
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        if call == "segment":
            answer = page.post(
                "/api/segment",
                params={"model": "nuclei"},
                content=files()["png.png"],
                headers=headers,
            )
            assert b'{"summary":' in answer.content
        else:
            answer = page.get(f"/api/{call}", headers=headers)
        assert answer.status_code == 200, answer.text
        method = "POST" if call == "segment" else "GET"
        name = f"{method} /api/{call}"
        spans = of_three(collector, trace)
        (asked,) = (each for each in spans if each.name == name)
        (called,) = children(spans, asked)
        (served,) = children(spans, called)
        assert [each.service for each in (asked, called)] == ["histill-web"] * 2
        assert [each.kind for each in (asked, called, served)] == [2, 3, 2]
        assert asked.attributes["http.route"] == f"/api/{call}"
        assert asked.attributes["http.response.status_code"] == 200


def test_no_secret_of_a_patient_is_in_a_span(
    home: House, page: httpx.Client, collector: Collector, tmp_path: Path
) -> None:
    """Neither of files, their names, or fields, nor what a caller adds to a trace, nor keys."""
    before = len(collector.spans)
    state = {"tracestate": f"x={CALL['parameter']}", "baggage": f"patient={CALL['id']}"}
    for name, data in files().items():
        for sent in (data, data[: len(data) // 2]):
            page.post(
                "/api/segment",
                params={"model": "nuclei", "note": CALL["form"], "file": f"{NAME} {name}"},
                content=sent,
                headers={"traceparent": f"00-{'8' * 32}-00f067aa0ba902b7-01", **state},
            )
    page.get(f"/api/models/{CALL['form']}")
    page.get(f"/api/{CALL['form']}")
    with home.client(KEY) as client:
        pushed = client.datasets.push(write_folder(tmp_path / CALL["file"]), name="slides")
        spec = SPEC | {"dataset": pushed.reference, "output_model": "made"}
        named = {"supervised": spec, "display_name": f"{NAME} {CALL['id']}"}
        job = client.jobs.wait(client.jobs.submit(named).name)
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    collector.wait(
        lambda all_: (
            any(s.name == "job attempt" and s.attributes["histill.job"] == job.name for s in all_)
            and sum(s.name == SEGMENT and s.kind == 2 for s in all_[before:]) >= len(files())
        )
    )
    told = [(f"request {number}", data) for number, data in enumerate(collector.requests)]
    assert found_in(told, [*SECRETS, KEY]) == []
    # The search does find: a model's name may stand there.
    assert found_in(told, ["nuclei@1"]) != []
