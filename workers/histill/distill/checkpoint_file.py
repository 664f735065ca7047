"""Nested dicts and lists of tensors and plain values as one safetensors file.

Tensors lie in the file as such, the tree around them as JSON in its metadata: nothing
that is read back is executed. A checksum over both tells a damaged file from a whole one.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TENSOR = "__tensor__"
_KEY, _SUM = "tree", "crc32"


def save(path: Path, tree: Any) -> None:
    """Writes a tree; the file is either the old one or the new one, never a part.

    Args:
        path: Of the file.
        tree: Dicts with strings as keys or with integers, lists, tensors, numbers, strings,
            ``None``. Tuples come back as lists.
    """
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_without_tensors(tree, tensors))
    part = path.with_suffix(".part")
    total = _checksum(skeleton, tensors.values())
    save_file(tensors, part, metadata={_KEY: skeleton, _SUM: str(total)})
    part.replace(path)


def load(path: Path) -> Any:
    """Reads a tree back; tensors on the CPU.

    Raises:
        ValueError: The file is none of ``save``'s, or not as it was written.
        SafetensorError: It is no safetensors file, or a part of one.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        skeleton = metadata.get(_KEY)
        if skeleton is None:
            raise ValueError(f"{path.name} is no checkpoint")
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys(), key=int)}
    if metadata.get(_SUM) != str(_checksum(skeleton, tensors.values())):
        raise ValueError(f"{path.name} is damaged: its checksum is not that of its content")
    return _with_tensors(json.loads(skeleton), tensors)


def _checksum(skeleton: str, tensors: Iterable[torch.Tensor]) -> int:
    total = zlib.crc32(skeleton.encode())
    for tensor in tensors:
        total = zlib.crc32(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _without_tensors(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        name = str(len(tensors))
        # A copy of its own: tensors that share memory cannot be saved.
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(node, dict):
        # JSON knows strings as keys only; optimisers number their parameters.
        return {"items": [[k, _without_tensors(v, tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return [_without_tensors(value, tensors) for value in node]
    return node


def _with_tensors(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_with_tensors(value, tensors) for value in node]
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        return {key: _with_tensors(value, tensors) for key, value in node["items"]}
    return node
