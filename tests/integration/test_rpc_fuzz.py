"""Whatever is sent to any method of a real process, it lives, and says nothing of its insides."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from any_message import messages, payloads
from histill.adapters.s3 import S3ObjectStore
from histill.core import catalog
from histill.core.names import Reference
from histill.embedded.processes import serving
from messages_that_work import HINTS, seeds
from methods import Method, Outcome, call, methods_of
from pictures import write_dataset
from raw_calls import framed, raw_call
from services import KEY, client_of, service, settings_of
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from hypothesis.strategies import SearchStrategy

    from conftest import S3, Valkey
    from services import Service

BY_HAND = "HISTILL_FUZZ_EXAMPLES"
EXAMPLES = int(os.environ.get(BY_HAND, "15"))
# A stream that goes on for ever is left after this.
PATIENCE_S = 3.0
METHODS = [
    (process, each) for process in ("jobs", "registry", "inference") for each in methods_of(process)
]
NAMES = [each.path.rpartition(".")[2] for _, each in METHODS]
OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
# What would tell of the inside: traces, modules, places on the machine.
INSIDES = re.compile(
    "|".join(
        [
            r"Traceback",
            r'File "',
            r"\.py\b",
            r"site-packages",
            r"google\.protobuf",
            r"\bhistill\.(?!api\.)[a-z]+",
            r"\b(?:grpc|numpy|pydantic|pydantic_core|minio|redis|urllib3|asyncio)\b[._]",
            r"pydantic\.dev",
            r"object at 0x",
            r"<class ",
            r"(?:Decode|Type|Value|Key|Index|Attribute|Runtime|OS|Assertion|Overflow)Error",
            *(
                re.escape(each)
                for each in {
                    sys.prefix,
                    str(Path(__file__).parents[2]),
                    tempfile.gettempdir(),
                    "/usr/",
                    "/proc/",
                    "/dev/",
                }
            ),
        ]
    )
)


@pytest.fixture(scope="module")
def processes(
    s3: S3, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Service, grpc.Channel]]]:
    """The three services over a bucket with a model, its aliases and a dataset."""
    folder = tmp_path_factory.mktemp("fuzz")
    store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": "fuzz"}))
    store.ensure_bucket()
    publish(store, student(), folder)
    catalog.set_alias(store, Reference("nuclei", version=1), "best")
    variables = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "fuzz"}
    own = {
        "jobs": {},
        "registry": {"HISTILL_UPLOAD__MAX_BYTES": "3000000"},
        "inference": {"HISTILL_INFERENCE__MAX_PIXELS": "4000000"},
    }
    with (
        service("jobs", folder, variables | own["jobs"]) as jobs,
        service("registry", folder, variables | own["registry"]) as registry,
        service("inference", folder, variables | own["inference"]) as inference,
    ):
        running = {each.name: each for each in (jobs, registry, inference)}
        for each in running.values():
            each.wait()
        with client_of(jobs, registry) as client:
            client.datasets.push(write_dataset(folder / "discs"), name="discs")
        channels = {
            name: grpc.insecure_channel(f"127.0.0.1:{each.port}") for name, each in running.items()
        }
        yield {name: (running[name], channels[name]) for name in running}
        for channel in channels.values():
            channel.close()


def requests(method: Method) -> SearchStrategy[list[bytes]]:
    """What may come for a method: right, nearly right, and nothing like it."""
    anything = messages(method.request, HINTS)
    one = payloads(anything)
    # grpc itself lets a method of one message wait for it until the deadline.
    least = 0 if method.takes_stream else 1
    found: list[SearchStrategy[list[bytes]]] = [st.lists(one, min_size=least, max_size=3)]
    for seed in seeds(method.path):
        near = st.tuples(*(payloads(_near(method, part)) for part in seed)).map(list)
        found += [near, near, _broken(near, one, least)]
    return st.one_of(found)


def _near(method: Method, base: Message) -> SearchStrategy[Message]:
    return messages(method.request, HINTS, base=base)


@st.composite
def _broken(
    draw: Any, near: SearchStrategy[list[bytes]], one: SearchStrategy[bytes], least: int
) -> list[bytes]:
    """A stream that ends early, begins with the wrong part, or goes on after its end."""
    parts: list[bytes] = draw(near)
    kind = draw(st.sampled_from(["short", "late", "turned", "long", "twice"]))
    match kind:
        case "short":
            return parts[: max(least, len(parts) - 1)]
        case "late":
            return parts[min(1, len(parts) - least) :]
        case "turned":
            return parts[::-1]
        case "long":
            return [*parts, draw(one)]
    return [*parts, *parts]


def told(found: Outcome) -> str:
    """All of an error's words; what the caller sent himself comes back in some."""
    trailers = [f"{name}: {value.decode(errors='replace')}" for name, value in found.trailers]
    return "\n".join([found.details, *trailers])


@pytest.mark.parametrize(("process", "method"), METHODS, ids=NAMES)
def test_whatever_is_sent(
    processes: dict[str, tuple[Service, grpc.Channel]], process: str, method: Method
) -> None:
    """No status says that it is our fault, no word tells of our insides, and the process lives."""
    running, channel = processes[process]
    before = running.log.stat().st_size

    @settings(
        max_examples=EXAMPLES,
        derandomize=BY_HAND not in os.environ,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=requests(method))
    def holds(sent: list[bytes]) -> None:
        found = call(channel, method.path, sent, key=KEY, timeout=PATIENCE_S, take=50)
        assert running.process.poll() is None, running.log.read_text()[-3000:]
        assert found.code not in OUR_FAULT, found
        assert not INSIDES.search(told(found)), found

    holds()
    with running.log.open() as log:
        log.seek(before)
        said = log.read()
    assert "Traceback" not in said, said[-3000:]
    assert "crashed" not in said, said[-3000:]


@pytest.mark.parametrize("process", ["jobs", "registry", "inference"])
def test_nothing_is_sent(processes: dict[str, tuple[Service, grpc.Channel]], process: str) -> None:
    """A call that ends before its message leaves the process as it was for the next one."""
    running, channel = processes[process]
    for method in methods_of(process)[:2]:
        found = call(channel, method.path, [], key=KEY, timeout=0.5)
        assert found.code not in OUR_FAULT, found
        assert not INSIDES.search(told(found)), found
    assert running.process.poll() is None


@pytest.mark.parametrize(("process", "method"), METHODS, ids=NAMES)
def test_bytes_that_are_no_message(
    processes: dict[str, tuple[Service, grpc.Channel]], process: str, method: Method
) -> None:
    """They are the caller's mistake, told as one with its field, and only to those we know."""
    _, channel = processes[process]
    found = call(channel, method.path, [b"\xff"], key=KEY, timeout=PATIENCE_S)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert found.details.startswith("request: is no message of this method")
    unknown = call(channel, method.path, [b"\xff"], key="unknown", timeout=PATIENCE_S)
    assert unknown.code is grpc.StatusCode.UNAUTHENTICATED


_WELL = framed(b"")
FRAMES: dict[str, dict[str, Any]] = {
    "no more than half of a message": {"parts": [framed(b"abc", announced=10)]},
    "a message of four gigabytes": {"parts": [framed(b"abc", announced=2**32 - 1)]},
    "half of a prefix": {"parts": [b"\0\0"]},
    "compressed, it does not say how": {"parts": [framed(b"abc", compressed=1)]},
    "a flag that there is not": {"parts": [framed(b"abc", compressed=7)]},
    "a byte at a time": {"parts": [bytes([each]) for each in framed(b"\xff\xff")]},
    "two messages": {"parts": [_WELL, _WELL, _WELL]},
    "more after the end": {"parts": [_WELL], "after": _WELL},
    "noise after the end": {"parts": [_WELL], "after": b"\xff" * 50},
    "reset in the middle": {"parts": [framed(b"abc", announced=10)], "end": "reset"},
    "gone in the middle": {"parts": [framed(b"abc", announced=10)], "end": "hang-up"},
    "gone at once": {"parts": [], "end": "hang-up"},
    "nothing": {"parts": []},
}


@pytest.mark.parametrize("how", FRAMES)
@pytest.mark.parametrize("process", ["jobs", "registry", "inference"])
def test_frames_that_no_client_sends(
    processes: dict[str, tuple[Service, grpc.Channel]], process: str, how: str
) -> None:
    """Cut, overlong, compressed and late frames end their own call, and the next one works."""
    running, channel = processes[process]
    for method in [each for each in methods_of(process) if "Watch" not in each.path][:3]:
        found = raw_call(running.port, method.path, key=KEY, seconds=0.5, **FRAMES[how])
        words = "\n".join(f"{name}: {value}" for name, value in found.items())
        assert not INSIDES.search(words), words
    assert running.process.poll() is None
    assert serving(running.port)
    listing = next(each for each in methods_of(process) if "List" in each.path)
    assert call(channel, listing.path, [b""], key=KEY).code is grpc.StatusCode.OK
