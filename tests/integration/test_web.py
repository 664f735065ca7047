"""The web process over a real inference service, with and without the other services."""

from __future__ import annotations

import base64
import io
import json
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import free_port
from histill.api.distillation.v1 import distillation_service_pb2 as jobs_pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as jobs_rpc
from histill.api.distillation.v1 import job_pb2
from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from pictures import blobs
from processes import HOST, running, s3_environment, wait_for_words, wait_until_serving
from serving import bucket_of
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3

MAX_UPLOAD = 1 << 20
KEY = "web-test-key"


class Registry(registry_rpc.RegistryServiceServicer):
    """A registry that knows one measured model."""

    def GetModel(  # noqa: N802
        self, request: registry_pb.GetModelRequest, context: grpc.ServicerContext
    ) -> registry_pb.GetModelResponse:
        if request.reference != "nuclei@1":
            context.abort(grpc.StatusCode.NOT_FOUND, f"model {request.reference} does not exist")
        model = model_pb2.Model(reference="nuclei@1", metrics={"dice": 0.9}, size_bytes=5)
        return registry_pb.GetModelResponse(model=model)


class Jobs(jobs_rpc.DistillationServiceServicer):
    """A jobs service with one running job, which succeeds while it is watched."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def ListJobs(  # noqa: N802
        self, request: jobs_pb.ListJobsRequest, context: grpc.ServicerContext
    ) -> jobs_pb.ListJobsResponse:
        self.keys += [str(v) for k, v in context.invocation_metadata() if k == "authorization"]
        assert request.page_size == 50
        job = job_pb2.Job(
            name="jobs/0123456789",
            display_name="a <b>job</b>",
            state=job_pb2.JOB_STATE_RUNNING,
            kind=job_pb2.JOB_KIND_MULTI_TEACHER,
            progress=job_pb2.Progress(stage="training", step=5, steps=10),
        )
        return jobs_pb.ListJobsResponse(jobs=[job], next_page_token="next")

    def WatchJob(  # noqa: N802
        self, request: jobs_pb.WatchJobRequest, context: grpc.ServicerContext
    ) -> Iterator[jobs_pb.WatchJobResponse]:
        if request.name != "jobs/0123456789":
            context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} does not exist")
        events = [
            job_pb2.JobEvent(event_id="1", progress=job_pb2.Progress(stage="training", step=6)),
            job_pb2.JobEvent(event_id="2", state=job_pb2.JOB_STATE_SUCCEEDED),
        ]
        for event in events:
            if event.event_id > request.after_event_id:
                yield jobs_pb.WatchJobResponse(event=event)


@pytest.fixture(scope="module")
def jobs() -> Iterator[tuple[str, Jobs]]:
    """A jobs service and a registry of this process, and where both listen."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    made: Any = Jobs  # it answers two of the methods only
    registry: Any = Registry
    servicer: Jobs = made()
    jobs_rpc.add_DistillationServiceServicer_to_server(servicer, server)
    registry_rpc.add_RegistryServiceServicer_to_server(registry(), server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    yield f"{HOST}:{port}", servicer
    server.stop(None).wait()


@pytest.fixture(scope="module")
def inference(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real inference service with one student, and where it listens."""
    folder = tmp_path_factory.mktemp("inference")
    bucket, store = bucket_of(s3)
    publish(store, student(), folder)
    port, metrics_port = free_port(), free_port()
    environment = s3_environment(s3.settings, bucket=bucket) | {
        "HISTILL_AUTH__MODE": "none",
        "HISTILL_SERVER__HOST": HOST,
        "HISTILL_SERVER__PORT": str(port),
        "HISTILL_SERVER__METRICS_PORT": str(metrics_port),
        "HISTILL_SERVER__HEALTH_PORT": "-1",
    }
    with running(
        "histill.inference", environment, port=port, metrics_port=metrics_port, folder=folder
    ) as service:
        wait_until_serving(service)
        yield service.target


@pytest.fixture(scope="module")
def page(
    jobs: tuple[str, Jobs], inference: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of the web process."""
    port, metrics_port = free_port(), free_port()
    environment = {
        "HISTILL_WEB__PORT": str(port),
        "HISTILL_WEB__METRICS_PORT": str(metrics_port),
        "HISTILL_WEB__API_KEY": KEY,
        "HISTILL_WEB__JOBS": jobs[0],
        "HISTILL_WEB__REGISTRY": jobs[0],
        "HISTILL_WEB__INFERENCE": inference,
        "HISTILL_WEB__MAX_UPLOAD_BYTES": str(MAX_UPLOAD),
    }
    folder = tmp_path_factory.mktemp("web")
    with running(
        "histill.web", environment, port=port, metrics_port=metrics_port, folder=folder
    ) as service:
        wait_for_words(service, "serving")
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(
            base_url=f"http://{HOST}:{port}", transport=transport, timeout=30
        ) as client:
            yield client


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def segment(page: httpx.Client, image: bytes, **fields: str) -> httpx.Response:
    fields = {"model": "nuclei"} | fields
    return page.post("/api/segment", data=fields, files={"image": ("x.png", image)})


def test_the_page_and_its_parts(page: httpx.Client) -> None:
    """HTML, style and script are there, under a policy that lets only them run."""
    answer = page.get("/")
    assert answer.status_code == 200
    assert "is not stored" in answer.text
    for part in ("/static/style.css", "/static/page.js", "/static/icon.svg"):
        assert part in answer.text
        assert page.get(part).status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for forbidden in (" style=", "<style", "onclick=", "http://", "https://"):
        assert forbidden not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.get("/healthz").json() == {"status": "ok"}


def test_other_hosts_are_refused(page: httpx.Client) -> None:
    """A name that is not ours, as in DNS rebinding, gets nothing."""
    assert page.get("/api/models", headers={"host": "evil.example"}).status_code == 400


def test_models(page: httpx.Client) -> None:
    """What can be asked for, with numbers as numbers."""
    (model,) = page.get("/api/models").json()["models"]
    assert model["reference"] == "nuclei@1"
    assert model["classes"] == ["background", "nuclei"]
    assert model["parameters"] == 10


def test_what_the_registry_knows_of_a_model(page: httpx.Client) -> None:
    """Measures come from the registry; a model it does not know is a 404."""
    body = page.get("/api/models/nuclei@1").json()
    assert (body["metrics"], body["size_bytes"]) == ({"dice": 0.9}, 5)
    assert page.get("/api/models/nobody").status_code == 404


def test_segments_an_image(page: httpx.Client) -> None:
    """The mask, what it shows, and the colours it is drawn in."""
    image, truth = blobs(3, side=60)
    answer = segment(page, png(image))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(body["mask"]))))
    assert np.mean(mask == truth) > 0.95
    assert body["media_type"] == "image/png"
    assert body["summary"]["classes"][1]["color"] == [230, 159, 0]
    assert body["summary"]["classes"][1]["pixels"] == int((mask == 1).sum())
    assert body["summary"]["times"]["compute_ms"] > 0


def test_outlines_to_download(page: httpx.Client) -> None:
    """GeoJSON comes with its media type."""
    body = segment(page, png(blobs(3)[0]), format="geojson").json()
    assert body["media_type"] == "application/geo+json"
    assert json.loads(base64.b64decode(body["mask"]))["type"] == "FeatureCollection"


@pytest.mark.parametrize(
    ("image", "fields", "status", "words"),
    [
        (b"GIF89a" + bytes(200), {}, 400, "PNG, JPEG, TIFF or DICOM"),
        (png(blobs(1)[0])[:500], {}, 400, "truncated"),
        (png(blobs(1)[0]), {"model": "nobody"}, 404, "nobody does not exist"),
        (png(blobs(1)[0]), {"format": "bmp"}, 400, "format: must be one of"),
        (png(blobs(1)[0]), {"format": "dicom-seg"}, 400, "needs a DICOM image"),
        (bytes(MAX_UPLOAD + (1 << 17)), {}, 413, "more than the 1 MiB"),
    ],
)
def test_errors_are_said_in_words(
    page: httpx.Client, image: bytes, fields: dict[str, str], status: int, words: str
) -> None:
    """Each error has its status and a JSON message for people."""
    answer = segment(page, image, **fields)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_forms_that_are_none(page: httpx.Client) -> None:
    """No form, and a form without an image, are told so."""
    answer = page.post("/api/segment", content=b"{}")
    assert answer.status_code == 400
    assert "multipart" in answer.json()["error"]["message"]
    answer = page.post("/api/segment", data={"model": "nuclei"}, files={"photo": b"x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][0]["field"] == "image"


def test_jobs_with_our_key(page: httpx.Client, jobs: tuple[str, Jobs]) -> None:
    """The list comes from the jobs service, which sees the page's API key."""
    body = page.get("/api/jobs").json()
    assert body["next_page_token"] == "next"
    assert body["jobs"][0]["progress"] == {
        "stage": "training",
        "step": 5,
        "steps": 10,
        "eta_seconds": 0,
    }
    assert jobs[1].keys[-1] == f"Bearer {KEY}"


def events(page: httpx.Client, job: str, **headers: str) -> list[dict[str, str]]:
    with page.stream("GET", f"/api/jobs/{job}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = answer.read().decode().strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_events_of_a_job(page: httpx.Client) -> None:
    """Events come with ids, resume after the last one seen, and end when the job does."""
    seen = events(page, "0123456789")
    assert [(each.get("id"), each["event"]) for each in seen] == [
        ("1", "progress"),
        ("2", "state"),
        (None, "end"),
    ]
    assert json.loads(seen[0]["data"])["progress"]["step"] == 6
    resumed = events(page, "0123456789", **{"last-event-id": "1"})
    assert [each["event"] for each in resumed] == ["state", "end"]


def test_events_of_no_job(page: httpx.Client) -> None:
    """A job that does not exist is told as an event, since the stream has begun."""
    (failure,) = events(page, "nobody")
    assert failure["event"] == "failure"
    assert "does not exist" in json.loads(failure["data"])["error"]["message"]


def test_services_that_are_down(tmp_path: Path) -> None:
    """Without the services the page is there, and its endpoints say 503."""
    port, metrics_port, nobody = free_port(), free_port(), free_port()
    environment = {
        "HISTILL_WEB__PORT": str(port),
        "HISTILL_WEB__METRICS_PORT": str(metrics_port),
        "HISTILL_WEB__JOBS": f"{HOST}:{nobody}",
        "HISTILL_WEB__INFERENCE": f"{HOST}:{nobody}",
        "HISTILL_WEB__REGISTRY": f"{HOST}:{nobody}",
    }
    with running(
        "histill.web", environment, port=port, metrics_port=metrics_port, folder=tmp_path
    ) as service:
        wait_for_words(service, "serving")
        with httpx.Client(
            base_url=f"http://{HOST}:{port}",
            transport=httpx.HTTPTransport(retries=5),
            timeout=30,
        ) as page:
            assert page.get("/").status_code == 200
            for path in ("/api/models", "/api/models/nuclei@1", "/api/jobs"):
                answer = page.get(path)
                assert answer.status_code == 503
                assert answer.json()["error"]["kind"] == "UnavailableError"
