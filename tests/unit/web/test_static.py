"""The page's files: complete, with their licences, and within the strict policy of content."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import histill.web

PACKAGE = Path(next(iter(histill.web.__path__)))
STATIC = PACKAGE / "static"
ROOT = Path(__file__).parents[3]
OURS = sorted((STATIC / "js").rglob("*.js"))
_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"']+)["']""")
# Ways by which text would become markup or code.
_FORBIDDEN = re.compile(
    r"\.(?:inner|outer)HTML\s*\+?=|insertAdjacentHTML|document\.write|\beval\(|new Function\("
    r"|createContextualFragment|setHTMLUnsafe|setAttribute\(\s*[\"'](?:style|on)"
)
_ELSEWHERE = re.compile(r"[\"'(]\s*(?:https?:)?//[a-z]", re.IGNORECASE)


class Document(HTMLParser):
    """Collects what index.html names, and what it may not have."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[str] = []
        self.ids: list[str] = []
        self.refers: list[tuple[str, str]] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._script = tag == "script"
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(f"<{tag}>")
        for name, value in given.items():
            if name == "style" or name.startswith("on") or value.startswith("javascript:"):
                self.inline.append(f"<{tag} {name}={value}>")
        if tag in {"script", "link", "img"}:
            self.named.append(given.get("src") or given.get("href") or "")
        if "id" in given:
            self.ids.append(given["id"])
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls", "list"):
            self.refers += [(name, each) for each in given.get(name, "").split()]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data.strip()[:40])

    def handle_endtag(self, tag: str) -> None:
        self._script = self._script and tag != "script"


@pytest.fixture(scope="module")
def document() -> Document:
    """The one document."""
    read = Document()
    read.feed((STATIC / "index.html").read_text())
    return read


def test_every_file_that_the_document_names_is_there(document: Document) -> None:
    """No script, style or picture is missing, and none comes from elsewhere."""
    assert document.named
    for name in document.named:
        assert name.startswith("/static/"), name
        assert (STATIC / name.removeprefix("/static/")).is_file(), name


def test_nothing_in_the_document_is_inline(document: Document) -> None:
    """Scripts, styles and handlers stand in files: the policy lets no others run."""
    assert document.inline == []


def test_ids_are_unique_and_those_that_are_named_exist(document: Document) -> None:
    """Labels and descriptions point at elements that are there, and at one each."""
    assert sorted(document.ids) == sorted(set(document.ids))
    assert [each for each in document.refers if each[1] not in document.ids] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(STATIC)))
def test_modules_import_what_is_there_and_make_no_markup(path: Path) -> None:
    """Imports resolve to files of ours; no text becomes markup or code."""
    text = path.read_text()
    code = "\n".join(
        line for line in text.splitlines() if not line.lstrip().startswith(("//", "*"))
    )
    for name in _IMPORT.findall(code):
        assert name.startswith("."), f"{name} is no file of ours"
        assert (path.parent / name).resolve().is_file(), f"{path.name}: {name} is not there"
    assert _FORBIDDEN.findall(code) == []
    assert _ELSEWHERE.findall(code) == [], "another origin"


def test_every_module_is_used(document: Document) -> None:
    """Each module is imported by another, or named by the document."""
    used = {(STATIC / name.removeprefix("/static/")).resolve() for name in document.named}
    for path in OURS:
        used |= {(path.parent / name).resolve() for name in _IMPORT.findall(path.read_text())}
    assert [path.name for path in OURS if path.resolve() not in used] == []


def test_libraries_come_with_their_licences() -> None:
    """Beside each library that others wrote stands the licence under which it came."""
    libraries = sorted((STATIC / "vendor").glob("*.js"))
    assert libraries
    for path in libraries:
        licence = path.with_name(f"{path.name.split('.')[0]}.LICENSE.txt")
        assert "copyright" in licence.read_text().lower(), licence


def test_styles_load_nothing_from_elsewhere() -> None:
    """Style sheets import nothing, and fetch nothing from other servers."""
    for path in STATIC.rglob("*.css"):
        text = path.read_text()
        assert "@import" not in text, path
        assert re.findall(r"url\(\s*[\"']?(?!data:|/static/)", text) == [], path


def test_every_file_is_packed() -> None:
    """The wheel takes whole packages but for what git ignores, and git ignores no file of these."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    assert PACKAGE == ROOT / "services" / "histill" / "web", "the wheel packs services/histill"
    files = [str(path) for path in STATIC.rglob("*") if path.is_file()]
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        input="\n".join(files),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ignored.stdout == ""
    assert ignored.returncode == 1, ignored.stderr
