"""Nested dicts and lists of tensors and plain values as one safetensors file.

Tensors lie in the file as such, the tree around them as JSON in its metadata: nothing
that is read back is executed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

_TENSOR = "__tensor__"
_KEY = "tree"


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
    save_file(tensors, part, metadata={_KEY: skeleton})
    part.replace(path)


def load(path: Path) -> Any:
    """Reads a tree back; tensors on the CPU.

    Raises:
        ValueError: The file is none of ``save``'s.
    """
    with safe_open(path, framework="pt") as file:
        skeleton = (file.metadata() or {}).get(_KEY)
        if skeleton is None:
            raise ValueError(f"{path.name} is no checkpoint")
        return _with_tensors(json.loads(skeleton), file.get_tensor)


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


def _with_tensors(node: Any, tensor: Any) -> Any:
    if isinstance(node, list):
        return [_with_tensors(value, tensor) for value in node]
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensor(node[_TENSOR])
        return {key: _with_tensors(value, tensor) for key, value in node["items"]}
    return node
