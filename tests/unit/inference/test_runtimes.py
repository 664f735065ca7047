"""Every runtime behind the port gives the same answers, and the fastest is chosen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from histill.core.errors import CorruptArtifactError, RuntimeFailedError
from histill.core.manifests import BFLOAT16_LOSS, INT8, INT8_LOSS, ONNX, ArtifactFile
from histill.inference import choosing
from histill.inference.choosing import Means
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.openvino_runtime import OpenVinoRuntime, has_bfloat16
from histill.inference.runtime import CONFIDENCE, MASK, PROBABILITIES
from students import manifest, student

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.manifests import ModelManifest
    from histill.inference.runtime import Precision, Runtime

ALL = (MASK, CONFIDENCE, PROBABILITIES)
MEANS = Means(workers=2, threads=1, device="cpu", runtime="auto", precision="auto")


def onnx_runtime(data: bytes) -> Runtime:
    return OnnxRuntime.load(data, reference="nuclei@1", channels=3, threads=1, device="cpu")


def openvino(data: bytes, precision: Precision = "f32") -> Runtime:
    return OpenVinoRuntime.load(
        data, reference="nuclei@1", stride=8, threads=1, workers=2, precision=precision
    )


@pytest.fixture(params=[onnx_runtime, openvino])
def load(request: pytest.FixtureRequest) -> Callable[[bytes], Runtime]:
    """Each of the runtimes."""
    found: Callable[[bytes], Runtime] = request.param
    return found


def reading(data: bytes, int8: bytes = b"") -> Callable[[str], bytes]:
    return {ONNX: data, INT8: int8}.__getitem__


def with_int8(data: bytes, **metrics: float) -> ModelManifest:
    """A manifest that tells of a second file."""
    plain = manifest(data)
    second = ArtifactFile(path=INT8, size=1, sha256="0" * 64)
    return plain.model_copy(update={"files": (*plain.files, second), "metrics": metrics})


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def test_classes_and_probabilities_belong_together(load: Callable[[bytes], Runtime]) -> None:
    """Types, shapes and values are the port's."""
    runtime = load(student())
    images = noise(2, 16, 24, 3)
    mask, confidence, probabilities = runtime.run(ALL, images)
    assert mask.dtype == np.uint8
    assert confidence.dtype == probabilities.dtype == np.float32
    assert (mask.shape, probabilities.shape) == ((2, 16, 24), (2, 2, 16, 24))
    np.testing.assert_array_equal(mask, probabilities.argmax(axis=1))
    np.testing.assert_allclose(confidence, probabilities.max(axis=1), rtol=1e-5)
    assert (runtime.stride, runtime.device, runtime.precision) == (8, "cpu", "f32")


def test_an_answer_outlives_the_next_run(load: Callable[[bytes], Runtime]) -> None:
    """What was returned does not change when the same thread asks again."""
    runtime = load(student())
    dark, light = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    found = runtime.run(ALL, dark)
    before = [values.copy() for values in found]
    runtime.run(ALL, light)
    for values, kept in zip(found, before, strict=True):
        np.testing.assert_array_equal(values, kept)


def test_threads_do_not_mix_answers(load: Callable[[bytes], Runtime]) -> None:
    """Images of many sizes from several threads get the masks they get alone."""
    runtime = load(student())
    batches = [noise(1, 8 * (1 + i % 4), 8 * (1 + i % 3), 3) for i in range(40)]
    alone = [runtime.run([MASK], batch)[0] for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda batch: runtime.run([MASK], batch)[0], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sides_that_do_not_fit_are_an_error_of_ours(load: Callable[[bytes], Runtime]) -> None:
    """A caller that forgets to pad hears it from us, and the runtime goes on."""
    runtime = load(student())
    with pytest.raises(RuntimeFailedError):
        runtime.run([MASK], noise(1, 9, 9, 3))
    assert runtime.run([MASK], noise(1, 8, 8, 3))[0].shape == (1, 8, 8)


def test_openvino_refuses_what_is_no_model() -> None:
    """Its own words are part of our error."""
    with pytest.raises(CorruptArtifactError, match="OpenVINO failed"):
        openvino(b"no model")


def test_both_runtimes_agree() -> None:
    """The same mask from both but for ties, which are rounding."""
    images = noise(1, 64, 64, 3)
    one, other = (made(student()).run(ALL, images) for made in (onnx_runtime, openvino))
    assert np.mean(one[0] == other[0]) > 0.999
    np.testing.assert_allclose(one[1], other[1], atol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_choice_can_be_made_by_hand(name: str) -> None:
    """A setting names the runtime, whatever is faster."""
    data = student()
    made = choosing.load(manifest(data), reading(data), replace(MEANS, runtime=name))
    assert made.name == name


def test_the_faster_one_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever measures faster here is taken."""
    data = student()
    for fastest in (0, 1):
        monkeypatch.setattr(
            choosing,
            "_measured",
            lambda found, _, fastest=fastest: [float(i != fastest) for i in range(len(found))],
        )
        name = choosing.load(manifest(data), reading(data), MEANS).name
        assert name == ("onnxruntime", "openvino")[fastest]


def test_one_that_answers_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is fast and wrong loses to one that is right."""
    data, wrong = student(), openvino(student(dark_is=0))
    monkeypatch.setattr(OpenVinoRuntime, "load", lambda *_, **__: wrong)
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: True)
    harmless = manifest(data).model_copy(update={"metrics": {BFLOAT16_LOSS: 0.0}})
    for like in (manifest(data), harmless):
        assert choosing.load(like, reading(data), MEANS).name == "onnxruntime"


def test_a_runtime_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one runtime cannot compile, another serves."""

    def refuses(*_: object, **__: object) -> OpenVinoRuntime:
        raise CorruptArtifactError("no such operator")

    monkeypatch.setattr(OpenVinoRuntime, "load", refuses)
    data = student()
    assert choosing.load(manifest(data), reading(data), MEANS).name == "onnxruntime"
    with pytest.raises(CorruptArtifactError, match="does not run in OpenVINO"):
        choosing.load(manifest(data), reading(data), replace(MEANS, runtime="openvino"))


@pytest.mark.parametrize(
    ("lost", "precision", "expected"),
    [
        (0.002, "auto", ("f32", "bf16")),
        (-0.01, "auto", ("f32", "bf16")),
        (0.004, "auto", ("f32",)),
        (None, "auto", ("f32",)),
        (0.0, "f32", ("f32",)),
    ],
)
def test_fewer_bits_only_where_they_were_found_harmless(
    lost: float | None, precision: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 needs a measured loss of at most 0.3 points, and a setting that allows it."""
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: True)
    like = manifest(b"")
    if lost is not None:
        like = like.model_copy(update={"metrics": {BFLOAT16_LOSS: lost}})
    found = choosing._precisions(like, replace(MEANS, precision=precision))
    assert tuple(found) == expected


def test_fewer_bits_need_a_cpu_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 would be emulated it is not tried."""
    monkeypatch.setattr(choosing, "has_bfloat16", lambda: False)
    like = manifest(b"").model_copy(update={"metrics": {BFLOAT16_LOSS: 0.0}})
    assert tuple(choosing._precisions(like, MEANS)) == ("f32",)


@pytest.mark.parametrize("fastest", [0, 1, 2, 3])
def test_integers_are_chosen_where_they_are_faster(
    fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runtimes with both files compete; the file that was chosen is the one that answers."""
    monkeypatch.setattr(
        choosing,
        "_measured",
        lambda found, _: [float(i != fastest) for i in range(len(found))],
    )
    data = student()
    made = choosing.load(with_int8(data, **{INT8_LOSS: 0.003}), reading(data, data), MEANS)
    assert (made.name, made.precision) == (
        ("onnxruntime", "f32"), ("openvino", "f32"), ("onnxruntime", "int8"), ("openvino", "int8")
    )[fastest]  # fmt: skip
    assert made.run([MASK], noise(1, 16, 16, 3))[0].shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("lost", "precision", "runtime"),
    [
        (0.0031, "auto", "auto"),
        (None, "auto", "auto"),
        (0.0, "f32", "auto"),
        (0.0, "auto", "onnxruntime"),
    ],
)
def test_integers_that_are_not_wanted_are_not_even_read(
    lost: float | None, precision: str, runtime: str
) -> None:
    """They need a measured loss of at most 0.3 points, and settings that allow them."""
    data = student()
    like = with_int8(data, **({} if lost is None else {INT8_LOSS: lost}))
    means = replace(MEANS, precision=precision, runtime=runtime)
    assert choosing.load(like, {ONNX: data}.__getitem__, means).precision == "f32"


def test_integers_without_a_file_are_not_asked_for() -> None:
    """A loss alone says nothing of a file."""
    data = student()
    like = manifest(data).model_copy(update={"metrics": {INT8_LOSS: 0.0}})
    assert choosing.load(like, {ONNX: data}.__getitem__, MEANS).precision == "f32"


def test_a_second_file_that_is_no_model_is_refused() -> None:
    """As the first is, by its own name."""
    data = student()
    with pytest.raises(CorruptArtifactError, match=r"nuclei@1/model\.int8\.onnx cannot be served"):
        choosing.load(with_int8(data, **{INT8_LOSS: 0.0}), reading(data, b"no model"), MEANS)


def test_integers_that_answer_otherwise_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file of another student, nor a runtime that computes a right one wrong."""
    monkeypatch.setattr(choosing, "_measured", lambda found, _: list(range(len(found), 0, -1)))
    data, other = student(), student(dark_is=0)
    like = with_int8(data, **{INT8_LOSS: 0.0})
    assert choosing.load(like, reading(data, other), MEANS).precision == "f32"
    right, wrong = openvino(data), openvino(other, "int8")
    made = {"f32": right, "int8": wrong}
    monkeypatch.setattr(OpenVinoRuntime, "load", lambda *_, precision, **__: made[precision])
    chosen = choosing.load(like, reading(data, data), MEANS)
    assert (chosen.name, chosen.precision) == ("onnxruntime", "int8")


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU does not compute in bfloat16")
def test_bfloat16_answers_alike() -> None:
    """Most pixels of noise stay."""
    images = noise(1, 64, 64, 3)
    one, other = (openvino(student(), bits).run(ALL, images) for bits in ("f32", "bf16"))
    assert np.mean(one[0] == other[0]) > 0.95
