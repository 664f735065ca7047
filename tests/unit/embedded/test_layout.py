"""Ports and secrets of embedded mode."""

from __future__ import annotations

import json
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from histill.client import ClientSettings
from histill.core.errors import EmbeddedError
from histill.core.service_settings import AuthSettings
from histill.embedded.layout import Ports, Secrets
from histill.embedded.processes import process_plans
from histill.embedded.stack import Stack, running

if TYPE_CHECKING:
    from pathlib import Path


def test_free_ports_differ_and_are_free() -> None:
    """Every process gets one of its own."""
    ports = Ports.free()
    numbers = [port for _, port in ports]
    assert len(set(numbers)) == len(numbers)
    assert ports.taken() == {}


def test_secrets_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    """The second start reads what the first made; only the owner can."""
    first = Secrets.of(tmp_path)
    assert Secrets.of(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert first.api_key not in first.api_key_sha256


def test_services_seal_keys_where_the_folder_has_a_seal(tmp_path: Path) -> None:
    """A folder of an earlier version has none: its stored keys carry no seal and go on."""

    def seals() -> set[str | None]:
        plans = process_plans(Ports(), Secrets.of(tmp_path), workers=1, scratch=tmp_path)
        services = [plan for plan in plans if plan.name in {"registry", "jobs", "inference"}]
        return {plan.settings.get("HISTILL_AUTH__SEAL") for plan in services}

    made = Secrets.of(tmp_path)
    assert seals() == {made.seal}
    AuthSettings.model_validate({"seal": made.seal})
    assert made.seal
    old = made.model_dump(exclude={"seal"})
    (tmp_path / "secrets.json").write_text(json.dumps(old))
    assert Secrets.of(tmp_path).api_key == made.api_key
    assert seals() == {""}


def test_the_page_has_no_key_of_its_own(tmp_path: Path) -> None:
    """Whoever started it gets a link with theirs, behind the # that browsers keep to themselves."""
    secrets = Secrets.of(tmp_path)
    plans = process_plans(Ports(), secrets, workers=1, scratch=tmp_path)
    (web,) = (plan for plan in plans if plan.name == "web")
    assert secrets.api_key not in repr(web.settings)
    assert web.settings["HISTILL_WEB__SECURE_COOKIES"] == "false"
    settings = {"web": "http://127.0.0.1:8080", "api_key": "a/b#c"}
    stack = Stack(tmp_path, Ports(), ClientSettings.model_validate(settings))
    assert stack.signed_in() == "http://127.0.0.1:8080/#key=a%2Fb%23c"


def test_a_broken_secrets_file_says_what_to_do(tmp_path: Path) -> None:
    """The error names the file and the remedy."""
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(EmbeddedError, match=r"secrets\.json is damaged; remove it"):
        Secrets.of(tmp_path)


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    """Which process, which port, and how to avoid it."""
    ports = Ports.free()
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.inference))
        other.listen()
        with (
            pytest.raises(EmbeddedError, match=rf"inference {ports.inference}.*--free-ports"),
            running(tmp_path, ports=ports, say=lambda _: None),
        ):
            pytest.fail("it must not start")
    assert not (tmp_path / "valkey").exists()


def test_a_folder_serves_one_system_at_a_time(tmp_path: Path) -> None:
    """A second start in the same folder is refused with words."""
    import fcntl

    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with (
            pytest.raises(EmbeddedError, match="in use by another histill"),
            running(tmp_path, ports=Ports.free(), say=lambda _: None),
        ):
            pytest.fail("it must not start")
