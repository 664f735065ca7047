"""Tries a teacher before it is registered: ``python -m histill.distill.check FOLDER HEADER.json``.

Runs it on noise of two sizes (a classifier on the one that it takes) and prints every
problem with a stable code as JSON::

    {"problems": [{"code", "message", "hint"}], "parameters": N, "ms_per_image": x}

Exit code 0 when there is no problem, else 1. Foreign code may run in here: start it
with an environment that holds no credentials.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from google.protobuf.json_format import Parse

from histill.api.registry.v1 import registry_service_pb2
from histill.core.errors import WorkFailedError
from histill.core.headers import unsent_manifest
from histill.core.manifests import TORCHSCRIPT, WEIGHTS
from histill.distill.probes import UNREADABLE, first_line, run_program, sizes_to_try
from histill.distill.programs import read_teacher
from histill.distill.reasons import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    from histill.core.manifests import ModelManifest
    from histill.distill.predict import Normalized

NOT_FINITE = "NOT_FINITE"
NO_GRADIENT = "NO_GRADIENT"
NOT_DETERMINISTIC = "NOT_DETERMINISTIC"
NOT_LOGITS = "NOT_LOGITS"

_BATCH = 2
_CPU = torch.device("cpu")
_MEMORY_BYTES = 32 << 30
_TIMED_RUNS = 3
_SAME = {"rtol": 1e-4, "atol": 1e-5}  # threads may add in another order
_SUMS_TO_ONE = 1e-3


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it."""

    code: str
    message: str
    hint: str


@dataclass
class Report:
    """What the check found.

    Attributes:
        problems: One of each code at most; none means that the teacher is good.
        parameters: Scalars of the network, constants that a program froze not counted.
        ms_per_image: Of noise, the larger size if there are two, on this CPU; 0 if it never ran.
    """

    problems: list[Problem] = field(default_factory=list)
    parameters: int = 0
    ms_per_image: float = 0.0

    def add(self, code: str, message: str, hint: str) -> None:
        """Notes a problem, unless one of its code is there already."""
        if all(problem.code != code for problem in self.problems):
            self.problems.append(Problem(code, message, hint))


def check_teacher(folder: Path, manifest: ModelManifest) -> Report:
    """Loads a teacher and tries it.

    Args:
        folder: Holds ``weights.safetensors`` or ``model.ts``.
        manifest: What it is said to be.
    """
    report = Report()
    try:
        net = read_teacher(folder, manifest, _CPU)
        report.parameters = sum(parameter.numel() for parameter in net.parameters())
        for size in sizes_to_try(manifest):
            noise = torch.Generator().manual_seed(sum(size))
            image = torch.rand(_BATCH, manifest.channels, *size, generator=noise) * 255
            try:
                _try(net, image, manifest, report)
            except WorkFailedError as exc:
                report.add(exc.reason, str(exc), exc.hint)
    except WorkFailedError as exc:
        report.add(exc.reason, str(exc), exc.hint)
    except Exception as exc:
        if not is_out_of_memory(exc):
            raise
        hint = "Use a smaller network, or push it with --unchecked from a machine that can run it."
        report.add(UNREADABLE, f"memory ran out: {first_line(exc)}", hint)
    return report


def _try(net: Normalized, image: Tensor, manifest: ModelManifest, report: Report) -> None:
    with torch.inference_mode():
        first = run_program(net, image, manifest)
        again = run_program(net, image, manifest)
        report.ms_per_image = _milliseconds(net, image)
    if not bool(first.isfinite().all()):
        report.add(
            NOT_FINITE,
            "the output on noise holds NaN or infinity",
            "Look for NaN in the weights, and for a std in the header that is far too small.",
        )
    elif _probabilities(first, manifest):
        report.add(
            NOT_LOGITS,
            f"the outputs are probabilities already: there is a {manifest.activation} inside",
            "Export the network without it; distillation needs the logits before it.",
        )
    if not torch.allclose(first, again, equal_nan=True, **_SAME):
        report.add(
            NOT_DETERMINISTIC,
            "two runs on the same input differ",
            "Call net.eval() before you export it: dropout or noise is still at work.",
        )
    _check_gradient(net, image, manifest, report)


def _probabilities(logits: Tensor, manifest: ModelManifest) -> bool:
    if not bool(((logits >= 0) & (logits <= 1)).all()):
        return False
    if manifest.activation == "sigmoid":
        return bool((logits[:, 1:] > 0).any())
    return bool(((logits.sum(dim=1) - 1).abs() < _SUMS_TO_ONE).all())


def _check_gradient(
    net: Normalized, image: Tensor, manifest: ModelManifest, report: Report
) -> None:
    leaf = image.clone().requires_grad_()
    words = ""
    try:
        logits = run_program(net, leaf, manifest)
        pull = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
        (logits * pull).sum().backward()
    except RuntimeError as exc:
        words = f"it cannot be differentiated: {first_line(exc)}"
    else:
        if leaf.grad is None or not bool(leaf.grad.any()):
            words = "its output does not depend on the input in a way that can be differentiated"
        elif not bool(leaf.grad.isfinite().all()):
            words = "the gradient at its input holds NaN or infinity"
    if words:
        report.add(
            NO_GRADIENT,
            words,
            "Export it without no_grad, rounding or quantisation: distillation without data "
            "follows the gradient to the input.",
        )


def _milliseconds(net: Normalized, image: Tensor) -> float:
    taken = []
    for _ in range(_TIMED_RUNS):
        started = time.perf_counter()
        net(image)
        taken.append(time.perf_counter() - started)
    return round(1000 * min(taken) / len(image), 3)


def read_header(folder: Path, header: Path) -> ModelManifest:
    """The manifest of a ``ModelHeader`` in JSON, for the file that lies in a folder.

    Raises:
        InvalidArgumentError: A field is wrong.
    """
    message = Parse(header.read_text(), registry_service_pb2.ModelHeader())
    files = [name for name in (WEIGHTS, TORCHSCRIPT) if (folder / name).exists()]
    return unsent_manifest(message, files)


def main(arguments: list[str]) -> int:
    """Checks one teacher."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    folder, header = map(Path, arguments)
    report = check_teacher(folder, read_header(folder, header))
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
