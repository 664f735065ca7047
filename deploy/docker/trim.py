"""Takes out of an environment what none of our processes can use.

That is what packages bring for their own tests and for compilers, what onnxruntime and OpenVINO
bring for other languages, formats and devices than ours (ONNX files, on CPUs; GPUs go through
onnxruntime and torch), and the codecs of formats that the service does not read: they would be
open to hostile files for nothing.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Names of folders, wherever they are.
TESTS = frozenset({"tests", "SelfTest"})
# Files for compilers and type checkers.
SOURCES = frozenset({".a", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".pxd", ".pyi", ".pyx"})
UNUSED = (
    "onnxruntime/capi/libonnxruntime.so*",  # for C; Python has its own copy
    "onnxruntime/datasets",
    "openvino/include",
    "openvino/libs/cache.json",  # of GPUs
    "openvino/libs/libopenvino_gguf_frontend*",
    "openvino/libs/libopenvino_intel_gpu_plugin*",
    "openvino/libs/libopenvino_intel_npu_plugin*",
    "openvino/libs/libopenvino_jax_frontend*",
    "openvino/libs/libopenvino_paddle_frontend*",
    "openvino/libs/libopenvino_pytorch_frontend*",
    "openvino/libs/libopenvino_tensorflow*_frontend*",
    "torch/bin/protoc*",
    "torch/include",
    "torch/share",
)
# Modules of imagecodecs that no TIFF, DICOM file or slide has use for.
CODECS = (
    *("aec", "apng", "avif", "bcn", "blosc", "blosc2", "bmp", "cms", "gif", "lz4", "lz4f", "lzfse"),
    *("lzham", "lzo", "meshopt", "pcodec", "pglz", "rcomp", "rgbe", "snappy", "sperr", "spng"),
    *("sz3", "szip", "ultrahdr", "zfp", "zopfli"),
)


def trim(site: Path) -> int:
    """Takes it out of a folder of packages; returns how many bytes that gave."""
    before = size(site)
    for path in [*_tests(site), *_sources(site)]:
        _remove(path)
    for pattern in (*UNUSED, *(f"imagecodecs/_{name}.*so" for name in CODECS)):
        for path in site.glob(pattern):
            _remove(path)
    while lonely := list(_lonely(site, "imagecodecs")):
        for path in lonely:
            _remove(path)
    return before - size(site)


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file())


def _tests(site: Path) -> Iterator[Path]:
    return (each for each in site.rglob("*") if each.name in TESTS and each.is_dir())


def _sources(site: Path) -> Iterator[Path]:
    return (each for each in site.rglob("*.*") if each.suffix in SOURCES and each.is_file())


def _lonely(site: Path, package: str) -> Iterator[Path]:
    """Libraries that a package brings and none of its others names any more."""
    libraries = list((site / f"{package}.libs").glob("*.so*"))
    others = [*(site / package).glob("*.so"), *libraries]
    contents = {path: path.read_bytes() for path in others}
    for library in libraries:
        name = library.name.encode()
        if not any(name in data for path, data in contents.items() if path != library):
            yield library


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
