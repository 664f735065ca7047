"""Where the training runs: one process or several, on the CPU or on GPUs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

_WAIT = timedelta(hours=6)  # one process validates while the others wait; torchrun ends all


@dataclass(frozen=True)
class Place:
    """This process among those of the run, as torchrun's variables say.

    Attributes:
        device: What it computes on.
        rank: Its number; 0 writes the results.
        world: How many there are.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes results and events."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over processes, as a part of the graph."""
        if self.world == 1:
            return value
        summed: Tensor = all_reduce(value)
        return summed

    def distributed(self, net: nn.Module) -> nn.Module:
        """The network as it is trained: with gradients averaged over processes."""
        if self.world == 1:
            return net
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=ids)

    def mean(self, gradients: Iterable[Tensor]) -> None:
        """Averages gradients over processes, in place."""
        if self.world > 1:
            for gradient in gradients:
                distributed.all_reduce(gradient)
                gradient.div_(self.world)

    def largest(self, value: int) -> int:
        """The largest of a number over processes; all must ask at the same point."""
        if self.world == 1:
            return value
        held = torch.tensor(value, device=self.device)
        distributed.all_reduce(held, op=distributed.ReduceOp.MAX)
        return int(held.item())

    def everywhere(self, *, fact: bool) -> bool:
        """Whether a fact holds in every process; all must ask at the same point."""
        if self.world == 1:
            return fact
        flag = torch.tensor(float(fact), device=self.device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MIN)
        return bool(flag.item())

    def anywhere(self, *, fact: bool) -> bool:
        """Whether a fact holds in any process; all must ask at the same point."""
        return not self.everywhere(fact=not fact)

    def meet(self) -> None:
        """Waits until every process has come here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Place]:
    """Joins the other processes of the run, if there are any, and leaves at the end."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        # On GPUs some operators have no deterministic form, and cuBLAS asks for an
        # environment variable; on the CPU it costs nothing.
        torch.use_deterministic_algorithms(True)
    if world > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_WAIT)
    try:
        yield Place(device, rank, world)
    finally:
        if world > 1:
            distributed.destroy_process_group()
