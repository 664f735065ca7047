"""Trees of tensors as one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from histill.core.specs import NetworkSpec
from histill.distill import checkpoint_file
from histill.distill.nets import build_network

if TYPE_CHECKING:
    from pathlib import Path


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal, with their types but for tuples."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def round_trip(tree: Any, folder: Path) -> Any:
    checkpoint_file.save(folder / "checkpoint.safetensors", tree)
    return checkpoint_file.load(folder / "checkpoint.safetensors")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_networks_and_an_optimisers_state_come_back(
    kind: type[torch.optim.Optimizer], tmp_path: Path
) -> None:
    """Restored from the file, both take the next step as if nothing had been."""
    spec = NetworkSpec(width=4, depth=2)
    nets = [build_network(spec, channels=1, classes=2) for _ in range(2)]
    optimizers = [kind(net.parameters(), lr=0.01) for net in nets]  # type: ignore[call-arg]
    images = torch.rand(4, 1, 16, 16) * 255

    def step(index: int) -> None:
        optimizers[index].zero_grad()
        nets[index].train()(images).square().mean().backward()
        optimizers[index].step()

    for _ in range(3):
        step(0)
    state = {"net": dict(nets[0].state_dict()), "optimizer": optimizers[0].state_dict()}
    back = round_trip(state, tmp_path)
    assert same(state, back)
    nets[1].load_state_dict(back["net"])
    optimizers[1].load_state_dict(back["optimizer"])
    for index in (0, 1):
        step(index)
    assert same(dict(nets[0].state_dict()), dict(nets[1].state_dict()))


def test_plain_values_come_back_as_they_were(tmp_path: Path) -> None:
    """Keys stay integers or strings, numbers exact, and lists and dicts may be empty."""
    tree = {
        0: None, "0": True, 7: [1, [2.5, [None, "three"]], {}, []],
        "number": 0.1 + 0.2, "large": 2**62, "text": 'tensor "0" \u2713', "infinite": float("inf"),
    }  # fmt: skip
    assert same(tree, round_trip(tree, tmp_path))
    assert same([], round_trip((), tmp_path))


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    """Bytes, halves, integers, scalars and empty ones, with what is not finite in them."""
    tree = [
        torch.arange(6, dtype=torch.uint8).reshape(2, 3), torch.randn(3).half(),
        torch.tensor(5), torch.empty(0, 3), torch.get_rng_state(), torch.tensor([True, False]),
    ]  # fmt: skip
    assert same(tree, round_trip(tree, tmp_path))
    odd = round_trip([torch.tensor([float("nan"), float("-inf")])], tmp_path)[0]
    assert odd.isnan().tolist() == [True, False]
    assert odd[1] == float("-inf")


def test_tensors_may_share_memory(tmp_path: Path) -> None:
    """Twice the same one, views of one and turned ones: each becomes one of its own."""
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    tree = {
        "whole": whole,
        "again": whole,
        "row": whole[1],
        "turned": whole.T,
        "wide": whole[:1].expand(5, 4),
    }
    back = round_trip(tree, tmp_path)
    assert same(tree, back)
    back["row"].fill_(0)
    assert torch.equal(back["whole"], whole)
    assert torch.equal(back["again"], whole)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Weights alone are no checkpoint, and neither is text."""
    foreign = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights\.safetensors is no checkpoint"):
        checkpoint_file.load(foreign)
    foreign.write_text("not a safetensors file")
    with pytest.raises((SafetensorError, ValueError)):
        checkpoint_file.load(foreign)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A part that was written stands for nothing, and the next write goes over it."""
    path = tmp_path / "checkpoint.safetensors"
    checkpoint_file.save(path, {"round": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint_file.save(path, {"round": 2, "bad": object()})
    assert checkpoint_file.load(path) == {"round": 1}
    path.with_suffix(".part").write_bytes(path.read_bytes()[:10])
    assert checkpoint_file.load(path) == {"round": 1}
    checkpoint_file.save(path, {"round": 3})
    assert checkpoint_file.load(path) == {"round": 3}
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there is replaced only when the new one is whole."""
    path = tmp_path / "checkpoint.safetensors"
    checkpoint_file.save(path, {"weights": torch.zeros(4)})
    before = path.read_bytes()

    def full(tensors: object, part: Path, **_: object) -> None:
        del tensors
        part.write_bytes(before[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_file.save(path, {"weights": torch.ones(4)})
    assert path.read_bytes() == before
    assert same(checkpoint_file.load(path), {"weights": torch.zeros(4)})


def test_every_damaged_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    """Neither a flipped bit anywhere nor a missing end is read as a checkpoint."""
    path = tmp_path / "checkpoint.safetensors"
    tree = {"weights": torch.arange(4.0), "count": torch.tensor(3), "step": 12, "best": 0.5}
    checkpoint_file.save(path, tree)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            read = checkpoint_file.load(path)
        except (ValueError, SafetensorError):
            continue
        assert same(read, tree), at  # a flipped bit of what does not matter, as of padding
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises((ValueError, SafetensorError)):
            checkpoint_file.load(path)
