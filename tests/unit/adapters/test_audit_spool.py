"""Records on the local disk and on their way to the store."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects
from histill.adapters.audit_shipping import ship, ship_abandoned
from histill.adapters.audit_spool import Spool, locked_folder, segments, spool_folder
from histill.adapters.audit_trail import audit_trail
from histill.core import audit_check
from histill.core.audit_settings import AuditSettings
from histill.core.errors import SettingsError, StorageUnavailableError
from histill.core.settings import S3Settings

if TYPE_CHECKING:
    from pathlib import Path

CHAIN = "jobs-20260301T120000Z-0badcafe"
KEY = b"k" * 32


def now() -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Away(MemoryObjects):
    """A store that does not answer while ``away``."""

    away: bool = True

    def put_file(self, key: str, path: Path) -> None:
        if self.away:
            raise StorageUnavailableError("away")
        super().put_file(key, path)


def made(folder: Path, *, max_bytes: int = 1 << 20) -> Spool:
    (folder / CHAIN).mkdir(exist_ok=True)
    return Spool(folder / CHAIN, key=KEY, max_bytes=max_bytes)


def lines(store: MemoryObjects) -> int:
    """Lines of the one chain in the store, which must be whole."""
    names = audit_check.chains(store, since=None, until=None, key=KEY)
    [report] = list(audit_check.check(store, names, key=KEY))
    assert report.fault == ""
    return report.lines


def test_each_record_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """Another process would find it there, before anything is closed."""
    spool = made(tmp_path)
    for number in range(1, 4):
        assert spool.append({"what": "ended"}) == number
        [file] = segments(tmp_path / CHAIN)
        assert len(file.read_bytes().splitlines()) == number
    assert file.stat().st_mode & 0o077 == 0


def test_concurrent_records_are_one_unbroken_chain(tmp_path: Path) -> None:
    """Eight threads write while another one ships: no line is lost, doubled or misplaced."""
    spool, store = made(tmp_path), MemoryObjects()
    done = threading.Event()

    def shipping() -> None:
        while not done.is_set():
            files = spool.rotate()
            ship(store, CHAIN, files, key=KEY, clock=now)
            for file in files:
                spool.shipped(file)

    def writing() -> None:
        for number in range(200):
            assert spool.append({"what": "ended", "number": number})

    shipper = threading.Thread(target=shipping)
    shipper.start()
    writers = [threading.Thread(target=writing) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    shipper.join()
    ship(store, CHAIN, spool.rotate(), key=KEY, clock=now)
    assert lines(store) == 1600


def test_what_finds_no_room_is_counted_in_the_chain(tmp_path: Path) -> None:
    """The log is full until something was shipped; then it tells how much it missed."""
    spool, store = made(tmp_path, max_bytes=1000), MemoryObjects()
    while spool.append({"what": "ended"}):
        pass
    assert spool.full()
    assert not spool.append({"what": "ended"})
    files = spool.rotate()
    ship(store, CHAIN, files, key=KEY, clock=now)
    for file in files:
        spool.shipped(file)
    assert not spool.full()
    told = segments(tmp_path / CHAIN)[-1].read_text()
    assert '"count":2' in told
    assert '"what":"dropped"' in told
    assert spool.append({"what": "ended"})
    ship(store, CHAIN, spool.rotate(), key=KEY, clock=now)
    assert lines(store) > 2


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a line is written whole or not at all."""
    spool = made(tmp_path)
    assert spool.append({"what": "ended"})
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:10]))
    assert not spool.append({"what": "ended"})
    monkeypatch.setattr(os, "write", real)
    assert spool.append({"what": "ended"})
    store = MemoryObjects()
    ship(store, CHAIN, spool.rotate(), key=KEY, clock=now)
    assert lines(store) == 3


def test_what_the_dead_left_is_shipped_by_the_next(tmp_path: Path) -> None:
    """A folder whose process is gone is shipped and removed; a living one's is left alone."""
    store = MemoryObjects()
    with locked_folder(tmp_path, "alive-20260301T120000Z-00000000") as alive:
        (tmp_path / CHAIN).mkdir()
        (tmp_path / CHAIN / "lock").touch()
        spool = made(tmp_path)
        for _ in range(3):
            spool.append({"what": "ended"})
        [file] = segments(tmp_path / CHAIN)
        with file.open("ab") as torn:
            torn.write(b'{"what":"en')
        assert ship_abandoned(store, tmp_path, key=KEY, clock=now) == [CHAIN]
        assert alive.exists()
    assert not (tmp_path / CHAIN).exists()
    assert lines(store) == 3


def test_a_process_ships_at_its_end_and_keeps_what_it_cannot(tmp_path: Path) -> None:
    """With the store away the folder stays, and the next process ships it beside its own."""
    settings = AuditSettings.model_validate(
        {"folder": str(tmp_path), "key": KEY.decode(), "every_s": 0.05}
    )
    store = Away()
    with audit_trail(settings, S3Settings(), store, process="jobs", clock=now) as trail:
        trail.append({"what": "ended"})
    [place] = tmp_path.iterdir()
    [left] = place.iterdir()
    assert store.data == {}
    store.away = False
    with audit_trail(settings, S3Settings(), store, process="jobs", clock=now) as trail:
        trail.append({"what": "ended"})
        shipped = threading.Event()
        for _ in range(100):
            if not left.exists():
                shipped.set()
                break
            shipped.wait(0.05)
        assert shipped.is_set()
    assert list(place.iterdir()) == []
    names = audit_check.chains(store, since=None, until=None, key=KEY)
    reports = list(audit_check.check(store, names, key=KEY))
    assert [report.fault for report in reports] == ["", ""]


def test_stores_do_not_share_spools(tmp_path: Path) -> None:
    """What was meant for one store is never shipped to another."""
    settings = AuditSettings.model_validate({"folder": str(tmp_path), "every_s": 0.05})
    one, other = Away(), MemoryObjects()
    with audit_trail(settings, S3Settings(), one, process="jobs", clock=now) as trail:
        trail.append({"what": "ended"})
    elsewhere = S3Settings(bucket="another")
    with audit_trail(settings, elsewhere, other, process="jobs", clock=now):
        threading.Event().wait(0.3)
    assert other.data == {}


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The setting stands in the error."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="HISTILL_AUDIT__FOLDER"):
        spool_folder(str(tmp_path / "file" / "folder"))
