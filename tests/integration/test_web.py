"""What the page itself sends, who is refused before anybody is asked, and followed jobs."""

from __future__ import annotations

import json
import socket
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from histill.api.distillation.v1 import distillation_service_pb2 as jobs_pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as jobs_rpc
from histill.api.distillation.v1 import job_pb2
from histill.core.jobs import JobError
from histill.core.messages import error_message
from histill.web.jobs_api import MOST_BYTES
from pages import HOST, Page, page_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

JOB = "0123456789"
REPORT = b"<!doctype html><title>Report</title><style>p {color: red}</style><script>1</script>"


class Jobs(jobs_rpc.DistillationServiceServicer):
    """A jobs service with one job, which fails while it is watched."""

    def GetJob(  # noqa: N802
        self,
        request: jobs_pb.GetJobRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> jobs_pb.GetJobResponse:
        error = JobError(
            reason="OUT_OF_MEMORY", message="it was killed", hint="use less", log_tail=("a", "b")
        )
        job = job_pb2.Job(
            name=request.name, state=job_pb2.JOB_STATE_FAILED, error=error_message(error)
        )
        return jobs_pb.GetJobResponse(job=job)

    def GetReport(  # noqa: N802
        self,
        request: jobs_pb.GetReportRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> jobs_pb.GetReportResponse:
        return jobs_pb.GetReportResponse(html=REPORT)

    def WatchJob(  # noqa: N802
        self, request: jobs_pb.WatchJobRequest, context: grpc.ServicerContext
    ) -> Iterator[jobs_pb.WatchJobResponse]:
        progress = job_pb2.Progress(stage="training", step=6)
        events = [
            job_pb2.JobEvent(event_id="1", progress=progress, metrics={"loss": 0.5}),
            job_pb2.JobEvent(event_id="2", log="a line\nand another"),
            job_pb2.JobEvent(event_id="3", state=job_pb2.JOB_STATE_SUCCEEDED),
        ]
        for event in events:
            if event.event_id > request.after_event_id:
                yield jobs_pb.WatchJobResponse(event=event)
        if request.name == "jobs/revoked":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the API key was revoked")


@pytest.fixture(scope="module")
def jobs() -> Iterator[str]:
    """A jobs service of this process: where it listens."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    made: Any = Jobs  # it answers some of the methods only
    jobs_rpc.add_DistillationServiceServicer_to_server(made(), server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    yield f"{HOST}:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield f"{HOST}:{held.getsockname()[1]}"


@pytest.fixture(scope="module")
def page(jobs: str, nobody: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page over it, without the other services."""
    folder = tmp_path_factory.mktemp("web")
    targets = {"jobs": jobs, "registry": nobody, "inference": nobody}
    with page_of(folder, guest_key="a guest's", **targets) as started:
        yield started


@pytest.fixture(scope="module")
def visitor(page: Page) -> Iterator[httpx.Client]:
    """Whoever opens it."""
    with page.visitor() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/new", "/jobs/0123", "/models", "/sign-in"])
def test_every_address_of_the_page(visitor: httpx.Client, path: str) -> None:
    """A link to a view opens it; the document is asked for again, and sent when it changed."""
    answer = visitor.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    assert '<script type="module" src="/static/js/main.js">' in answer.text


def test_an_address_that_is_none(visitor: httpx.Client) -> None:
    """A browser is shown the page, which says so; a program hears 404 in JSON."""
    answer = visitor.get("/jobbs", headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["content-type"][:9]) == (404, "text/html")
    for path in ("/jobbs", "/api/nothing", "/static/nothing.js"):
        answer = visitor.get(path)
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Not Found")
    assert visitor.post("/api/served").status_code == 405


def test_files_are_small_and_new(visitor: httpx.Client) -> None:
    """They come compressed, and again only when they have changed."""
    answer = visitor.get("/static/vendor/openseadragon.min.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.num_bytes_downloaded < len(answer.content) // 2
    assert answer.headers["cache-control"] == "no-cache"
    again = visitor.get(
        "/static/vendor/openseadragon.min.js",
        headers={"if-none-match": answer.headers["etag"]},
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/js/main.js"),
        ("GET", "/healthz"),
        ("GET", f"/api/jobs/{JOB}"),
        ("GET", "/api/served"),
        ("GET", "/nothing"),
        ("DELETE", "/api/session"),
        ("PUT", "/"),
    ],
)
def test_every_answer_is_guarded(visitor: httpx.Client, method: str, path: str) -> None:
    """Only the page's own scripts run, nothing frames it, and no answer is taken for another."""
    headers = visitor.request(method, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cache-control"] in {"no-store", "no-cache"}


def test_other_hosts_are_refused(visitor: httpx.Client) -> None:
    """A name that is not ours, as in DNS rebinding, gets nothing."""
    answer = visitor.get("/api/jobs", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert "content-security-policy" in answer.headers


def test_other_sites_are_refused(visitor: httpx.Client) -> None:
    """Their pages neither sign anybody out nor read; a link to the page is fine."""
    elsewhere = {"sec-fetch-site": "cross-site"}
    assert visitor.delete("/api/session", headers=elsewhere).status_code == 403
    assert visitor.get(f"/api/jobs/{JOB}", headers=elsewhere).status_code == 403
    assert visitor.get("/jobs", headers=elsewhere).status_code == 200


def test_why_a_job_failed(visitor: httpx.Client) -> None:
    """What helps stands in plain sight."""
    job = visitor.get(f"/api/jobs/{JOB}").json()["job"]
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"] == {
        "code": 10,
        "message": "it was killed",
        "reason": "OUT_OF_MEMORY",
        "hint": "use less",
        "log_tail": "a\nb",
    }


def test_a_report_runs_nothing(visitor: httpx.Client) -> None:
    """Its policy is stricter than the page's, but for its own style."""
    answer = visitor.get(f"/api/jobs/{JOB}/report")
    assert answer.content == REPORT
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert "script" not in policy


def events(
    visitor: httpx.Client, job: str, after: str = "", **headers: str
) -> list[dict[str, str]]:
    path = f"/api/jobs/{job}/events"
    with visitor.stream("GET", path, params={"after": after}, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        blocks = answer.read().decode().strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_events_of_a_job(visitor: httpx.Client) -> None:
    """Events come with ids, resume after the last one seen, and end when the job does."""
    seen = events(visitor, JOB)
    assert [(each.get("id"), each["event"]) for each in seen] == [
        ("1", "progress"),
        ("2", "log"),
        ("3", "state"),
        (None, "end"),
    ]
    first = json.loads(seen[0]["data"])
    assert (first["progress"]["step"], first["metrics"]) == (6, {"loss": 0.5})
    assert json.loads(seen[1]["data"])["log"] == "a line\nand another"
    resumed = events(visitor, JOB, **{"last-event-id": "2"})
    assert [each["event"] for each in resumed] == ["state", "end"]
    again = events(visitor, JOB, "1")
    assert [each["event"] for each in again] == ["log", "state", "end"]
    later = events(visitor, JOB, "1", **{"last-event-id": "2"})
    assert later == resumed


def test_a_stream_ends_with_its_key(visitor: httpx.Client) -> None:
    """Who may no longer follow a job is told so."""
    *_, last = events(visitor, "revoked")
    assert last["event"] == "failure"
    assert json.loads(last["data"])["error"] == {
        "kind": "UnauthenticatedError",
        "message": "the API key was revoked",
    }


def test_services_that_are_down(visitor: httpx.Client) -> None:
    """Without them the page is there, and says which one does not answer."""
    for path, name in (
        ("/api/served", "inference service"),
        ("/api/session", "registry"),
    ):
        answer = visitor.get(path)
        assert answer.status_code == 503
        assert answer.json()["error"] == {
            "kind": "UnavailableError",
            "message": f"the {name} does not answer; try again in a moment",
        }
    assert visitor.get("/healthz").json() == {"status": "ok"}


def asked(page: Page, head: str, body: str = "") -> int:
    """Status of a request to the letter."""
    with socket.create_connection((HOST, page.port), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: {HOST}\r\n\r\n{body}".encode())
        return int(connection.recv(12).split()[1])


ALIAS = "PUT /api/models/m/aliases/a"
SEGMENT = "POST /api/segment?model=m"


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (f"{ALIAS} HTTP/1.1\r\nContent-Length: 26", r'{"reference": "m@1\ud800"}', 400),
        (f"{SEGMENT}&frame={'9' * 5000} HTTP/1.1\r\nContent-Length: 1", "x", 400),
        (f"{SEGMENT} HTTP/1.1\r\nContent-Length: {'0' * 5000}1", "x", 400),
        (
            f"{SEGMENT} HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "2\r\nxx\r\n0\r\n\r\n",
            411,
        ),
        ("DELETE /api/session HTTP/1.1\r\nOrigin: http://[", "", 403),
        ("GET /static/%00/..%2f..%2fapp.py HTTP/1.1", "", 404),
    ],
)
def test_what_no_browser_sends(page: Page, head: str, body: str, status: int) -> None:
    """It is refused as what it is: nothing of it is a fault of ours."""
    assert asked(page, head, body) == status
    assert "Exception in ASGI" not in page.log.read_text()


def test_who_asks_for_headers_follows_nothing(visitor: httpx.Client) -> None:
    """Their answer is over at once, and so is what it costs."""
    answer = visitor.head("/api/jobs/endless/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["content-length"] == "0"


def test_the_worst_of_texts_holds_nobody_up(page: Page) -> None:
    """A job's text is small, and others are answered while it is read."""
    text = "[" + "a," * ((MOST_BYTES - 2) // 2) + "]"
    pool = futures.ThreadPoolExecutor(1)
    with page.visitor() as sender, page.visitor() as visitor, pool:
        assert sender.post("/api/jobs", content=f"{text} ").status_code == 413
        sent = pool.submit(sender.post, "/api/jobs", content=text)
        answered = 0
        while not sent.done():
            answered += visitor.get("/healthz").is_success
        assert sent.result().status_code == 400
    assert answered > 3


def test_a_registry_that_hangs(nobody: str, tmp_path: Path) -> None:
    """Who is there is not waited for any longer than a page can be."""
    with socket.socket() as deaf:
        deaf.bind((HOST, 0))
        deaf.listen()
        target = f"{HOST}:{deaf.getsockname()[1]}"
        targets = {"jobs": nobody, "registry": target, "inference": nobody}
        with page_of(tmp_path, **targets) as page, page.visitor() as visitor:
            answer = visitor.get("/api/session", timeout=5)
    assert answer.status_code in {503, 504}
    assert answer.json()["error"]["message"].startswith("the registry ")
