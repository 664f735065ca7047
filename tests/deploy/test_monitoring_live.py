"""A real Prometheus over the real processes under load: every query of every panel finds something.

One job runs all the while, images are segmented, calls fail, and one process has TLS, so that
there is no metric that nobody tells.
"""

from __future__ import annotations

import io
import shutil
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
import trustme
from PIL import Image

from certificates import files_in
from conftest import HOST
from deploy.monitored import DASHBOARDS, RULES, alerts, panels, rules, selectors, without_thresholds
from deploy.prometheus import Prometheus, prometheus
from free_ports import free_port
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.client import Client, ClientSettings
from histill.core.errors import HistillError
from pictures import blobs, write_dataset
from processes import running, wait_for_words
from services import KEY, Service, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey

PROGRAM = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="Prometheus is not installed (Debian: apt-get install prometheus)"
)
# What Grafana fills in.
FILLED = {"$namespace": ".*", "$__rate_interval": "15s"}


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(blobs(3, side=64)[0]).save(out, "PNG")
    return out.getvalue()


def job(steps: int) -> dict[str, Any]:
    network = {"architecture": "unet", "width": 4, "depth": 3}
    training = {"steps": steps, "batch_size": 2, "crop_size": 32}
    spec = {"dataset": "discs", "output_model": "nuclei", "network": network, "training": training}
    return {"supervised": spec}


@dataclass(frozen=True)
class System:
    """All processes, and somebody who uses them."""

    client: Client
    page: httpx.Client
    inference: Service
    metrics: dict[str, int]

    def segment(self) -> None:
        """One image by each way in, and some calls that go wrong."""
        image = png()
        self.client.segment(image, model="nuclei")
        for wrong in ("nobody", "nuclei"):
            with pytest.raises(HistillError):
                self.client.segment(image if wrong == "nobody" else b"no image", model=wrong)
        self._stream()
        told = self.page.post("/api/segment", params={"model": "nuclei"}, content=image)
        assert '"summary"' in told.text, told.text
        for path in ("/", "/api/models", "/api/jobs", "/api/models/nobody", "/nowhere"):
            self.page.get(path)

    def _stream(self) -> None:
        request = v2.ModelInferRequest(model_name="nuclei")
        pixels = np.zeros((1, 32, 32, 3), np.uint8)
        request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
        request.raw_input_contents.append(pixels.tobytes())
        with grpc.insecure_channel(f"{HOST}:{self.inference.port}") as channel:
            stub: Any = v2_rpc.GRPCInferenceServiceStub(channel)
            key = (("authorization", f"Bearer {KEY}"),)
            (answer,) = stub.ModelStreamInfer(iter([request]), metadata=key, timeout=30)
            assert not answer.error_message


@contextmanager
def system(folder: Path, s3: S3, valkey: Valkey) -> Iterator[System]:
    """Every process there is, each with metrics, and a model that was trained by them."""
    own = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "watched"}
    tls = files_in(folder / "tls", trustme.CA())
    secure = {"HISTILL_TLS__CERTIFICATE": str(tls.certificate), "HISTILL_TLS__KEY": str(tls.key)}
    quick = {
        "HISTILL_REAPER__EVERY_S": "0.5",
        "HISTILL_WORKER__SCRATCH": str(folder),
        "HISTILL_WORKER__HEALTH_HOST": HOST,
        "HISTILL_WORKER__HEALTH_PORT": str(free_port()),
    }
    (folder / "secure").mkdir()
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(service(name, folder, own | quick_of(name, quick)))
            for name in ("registry", "jobs", "inference", "distill")
        }
        secured = stack.enter_context(service("registry", folder / "secure", own | secure))
        for name in ("registry", "jobs", "inference"):
            started[name].wait()
        targets = {
            name: f"{HOST}:{started[name].port}" for name in ("registry", "jobs", "inference")
        }
        page, page_metrics = free_port(), free_port()
        web = {f"HISTILL_WEB__{name.upper()}": target for name, target in targets.items()} | {
            "HISTILL_WEB__PORT": str(page),
            "HISTILL_WEB__METRICS_PORT": str(page_metrics),
        }
        shown = stack.enter_context(
            running("histill.web", web, port=page, metrics_port=page_metrics, folder=folder)
        )
        wait_for_words(shown, "serving")
        settings = ClientSettings.model_validate({**targets, "api_key": KEY, "timeout_s": 60})
        client = stack.enter_context(Client(settings))
        client.datasets.push(write_dataset(folder / "discs"), name="discs")
        trained = client.jobs.wait(client.jobs.submit(job(5)).name)
        assert trained.result_model, trained.error
        browser = httpx.Client(
            base_url=f"http://{HOST}:{page}",
            headers={"Authorization": f"Bearer {KEY}"},
            transport=httpx.HTTPTransport(retries=5),
            timeout=30,
        )
        metrics = {
            **{name: each.metrics_port for name, each in started.items() if name != "distill"},
            "worker": started["distill"].metrics_port,
            "registry-secure": secured.metrics_port,
            "web": page_metrics,
        }
        yield System(client, stack.enter_context(browser), started["inference"], metrics)


def quick_of(name: str, settings: dict[str, str]) -> dict[str, str]:
    """Those that a process has."""
    group = {"jobs": "HISTILL_REAPER__", "distill": "HISTILL_WORKER__"}.get(name, "none")
    return {key: value for key, value in settings.items() if key.startswith(group)}


@contextmanager
def used(watched: System) -> Iterator[None]:
    """Somebody segments images all the while."""
    stop, failed = threading.Event(), list[BaseException]()

    def go_on() -> None:
        try:
            while not stop.is_set():
                watched.segment()
                stop.wait(0.2)
        except BaseException as exc:  # noqa: BLE001 - raised below, where it is seen
            failed.append(exc)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory, s3: S3, valkey: Valkey
) -> Iterator[Prometheus]:
    """Prometheus, after it has seen a running job and some seconds of load."""
    folder = tmp_path_factory.mktemp("watched")
    assert PROGRAM
    with system(folder, s3, valkey) as watched:
        long = watched.client.jobs.submit(job(100_000)).name
        for event in watched.client.jobs.watch(long):
            if event.progress.step > 0:
                break
        seen = prometheus(PROGRAM, folder, RULES, watched.metrics)
        with seen as found, used(watched):
            found.wait_for("histill_slo_errors:ratio_rate3d")
            found.wait_for('rate(histill_job_steps_total{kind="SUPERVISED"}[5s]) > 0')
            found.wait_for("histill_job_progress_ratio")
            time.sleep(3)
            yield found


def test_every_process_is_read(watching: Prometheus) -> None:
    """Each kind says what it is, in one version, answers, and is ready, if it knows of that."""
    kinds = watching.numbers("count by (process, version) (histill_build_info)")
    assert {labels["process"] for labels, _ in kinds} == {
        "inference", "jobs", "registry", "web", "worker",
    }  # fmt: skip
    assert len({labels["version"] for labels, _ in kinds}) == 1
    assert all(value == 1 for _, value in watching.numbers("up"))
    # Two of the registry.
    ready = [(labels["process"], value) for labels, value in watching.numbers("histill_ready")]
    assert sorted(ready) == [
        ("inference", 1), ("jobs", 1), ("registry", 1), ("registry", 1), ("worker", 1),
    ]  # fmt: skip


def test_prometheus_takes_every_rule(watching: Prometheus) -> None:
    """Each was worked out without an error or a warning, and each recorded one has a value."""
    groups = watching.get("rules")["groups"]
    told = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(told) == {rule.name for rule in rules()}
    for rule in told.values():
        assert rule["health"] == "ok", rule
        if rule["type"] == "recording":
            assert watching.numbers(rule["name"]), rule["name"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_every_panel_finds_something(watching: Prometheus, path: Path) -> None:
    """With its variables filled in, each is right and has numbers."""
    empty = []
    for panel in panels(path):
        for target in panel["targets"]:
            expr = target["expr"]
            for name, value in FILLED.items():
                expr = expr.replace(name, value)
            assert "$" not in expr, expr
            found = watching.numbers(expr)
            if panel["type"] != "stat":
                # Its legend says which installation it is.
                assert {labels.get("namespace") for labels, _ in found} <= {"ward"}, expr
            if not found:
                empty.append(f"{panel['title']}: {expr}")
    assert empty == []


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)
def test_alerts_look_at_something(watching: Prometheus, rule: Any) -> None:
    """Each series that an alert names is there, and without its thresholds it has a value."""
    named = selectors(rule.expr)
    assert named
    for selector in named:
        assert watching.numbers(selector), selector
    assert watching.numbers(without_thresholds(rule.expr)), without_thresholds(rule.expr)


def test_the_autoscaler_finds_its_metric_by_pod(watching: Prometheus) -> None:
    """Occupancy carries the labels by which prometheus-adapter finds the pod."""
    ((labels, value),) = watching.numbers("histill_inference_occupancy")
    assert (labels["namespace"], labels["pod"]) == ("ward", "inference")
    assert 0 <= value <= 4


def test_what_was_done_is_what_is_told(watching: Prometheus) -> None:
    """Calls, routes and failures are counted under their names, and nothing is counted as lost."""
    asked = watching.numbers("histill_web_requests_total > 0")
    routes = {labels["route"] for labels, _ in asked}
    assert routes == {
        "/", "/api/segment", "/api/models", "/api/models/{reference}", "/api/jobs", "other",
    }  # fmt: skip
    codes = {
        labels["grpc_code"]
        for labels, value in watching.numbers(
            'grpc_server_handled_total{grpc_method="Segment"} > 0'
        )
        if value
    }
    assert codes == {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}
    assert watching.numbers('histill_inference_streamed_total{grpc_code="OK"} > 0')
    lost = 'sum(histill_slo_failures:rate5m{slo="inference-availability"}) == 0'
    assert watching.numbers(lost)
    assert watching.numbers("sum(histill_audit_dropped_total) == 0")
    (certificate,) = watching.numbers("histill_tls_certificate_expiry_timestamp_seconds")
    assert certificate[0]["use"] == "server"
    assert certificate[1] > time.time()
