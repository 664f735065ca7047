"""One running system for the whole tier: the real processes, as ``histill up`` starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from free_ports import system_ports
from histill.client import Client
from histill.embedded.stack import Stack, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded system with every process, on free ports."""
    home = tmp_path_factory.mktemp("home")
    with running(home, ports=system_ports(), say=lambda _: None) as stack:
        yield stack


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[Client]:
    """A client of the running system."""
    with Client(stack.client) as client:
        yield client
