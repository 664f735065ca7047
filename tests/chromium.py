"""A real browser for tests and benchmarks of the page, and what goes wrong in it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Error, Page

PATH = Path("/usr/bin/chromium")
_QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Containers run tests as root, for whom Chromium has no sandbox.
    "--no-sandbox",
    # Heap sizes to the byte, for tests of memory.
    "--enable-precise-memory-info",
)
# Some violations are told in an event and nowhere else.
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates the policy: ${event.violatedDirective} by ${event.blockedURI}`));
"""


def missing() -> str:
    """Why no browser can be started here; empty when one can."""
    if not PATH.exists():
        return "chromium is not installed: apt install chromium"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install playwright"
    return ""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows, ended with the block.

    While it runs, this thread counts as inside an event loop: no coroutine test may run then.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PATH, args=_QUIET)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Trouble:
    """Errors that a page wrote to its console, threw, or made by breaking its policy.

    Attributes:
        expected: Patterns of those that a test brings about.
        found: All others.
    """

    expected: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def expect(self, *patterns: str) -> None:
        """From now on, and of what was found already, these count no more."""
        self.expected += patterns
        self.found = [each for each in self.found if not self._known(each)]

    def watch(self, page: Page) -> None:
        """Listens to a page; call it before the page goes anywhere."""
        page.on("console", self._console)
        page.on("pageerror", self._thrown)
        page.add_init_script(_TELL_VIOLATIONS)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} ({message.location.get('url', '')})")

    def _thrown(self, error: Error) -> None:
        self._note(f"thrown: {error.stack or error.message}")

    def _note(self, words: str) -> None:
        if not self._known(words):
            self.found.append(words)

    def _known(self, words: str) -> bool:
        return any(re.search(each, words) for each in self.expected)
