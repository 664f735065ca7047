"""Samples of earlier rounds, with what the teachers said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Memory:
    """Keeps a uniform choice of all samples it was ever given (reservoir sampling).

    Images are kept as bytes and logits in half precision, on the CPU.

    Args:
        capacity: In samples; 0 keeps none.
        seed: Of the choice.

    Source: Vitter 1985, algorithm R.
    """

    def __init__(self, capacity: int, *, seed: int) -> None:
        self.capacity = capacity
        self._given = 0
        self._random = torch.Generator().manual_seed(seed)
        self._images = torch.empty(0, dtype=torch.uint8)
        self._logits = torch.empty(0, dtype=torch.float16)

    def __len__(self) -> int:
        return min(self._given, self.capacity)

    def add(self, images: Tensor, logits: Tensor) -> None:
        """Takes in samples, but none with an answer that is not finite.

        Such an answer would be drawn again and again, also after the run was rolled back.

        Args:
            images: float [N, C, H, W] in units of a byte.
            logits: float [N, classes] or [N, classes, H, W].
        """
        if not self.capacity:
            return
        if not self._given:  # what nothing has touched takes no memory yet
            self._images = torch.empty((self.capacity, *images.shape[1:]), dtype=torch.uint8)
            self._logits = torch.empty((self.capacity, *logits.shape[1:]), dtype=torch.float16)
        pixels, said = images.detach().round().to("cpu", torch.uint8), logits.detach().cpu().half()
        taken: dict[int, int] = {}  # a place that comes twice holds the later sample
        for number in said.isfinite().flatten(1).all(dim=1).nonzero().flatten().tolist():
            place = self._given
            self._given += 1
            if place >= self.capacity:
                place = int(torch.randint(self._given, (), generator=self._random))
            if place < self.capacity:
                taken[place] = number
        places, numbers = list(taken), list(taken.values())
        self._images[places], self._logits[places] = pixels[numbers], said[numbers]

    @property
    def images(self) -> Tensor:
        """All images, uint8 [N, C, H, W]."""
        return self._images[: len(self)]

    @property
    def logits(self) -> Tensor:
        """What the teachers said about them, float16 [N, classes, ...]."""
        return self._logits[: len(self)]

    def draw(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Random samples, with repetition: images in units of a byte, logits; both float32."""
        at = torch.randint(len(self), (count,), generator=self._random)
        return self.images[at].to(device).float(), self.logits[at].to(device).float()

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on with it."""
        return {
            "given": self._given,
            "random": self._random.get_state(),
            "images": self.images.clone(),
            "logits": self.logits.clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self._given = 0
        if state["given"]:
            self.add(state["images"].float(), state["logits"])
        self._given = state["given"]
        self._random.set_state(state["random"])
