"""A page in headless Chromium that remembers what a reader of its console and its network would see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

from tests.patience import patient

ARGUMENTS = [
    "--no-sandbox",  # tests may run as root, where Chromium refuses to start with it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FAILED_REPLY = (
    "Failed to load resource"  # Chromium logs every reply of 400 and over, and every lost connection
)
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"  # the machine got or lost a network, as when a container starts


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium, without the windows of a browser. RuntimeError says what to install."""
    path = shutil.which("chromium-headless-shell")
    if path is None:
        raise RuntimeError("these tests need Chromium: apt-get install chromium-headless-shell")
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


class Seen:
    """What happened on a page: errors of console and scripts, and requests to other origins."""

    def __init__(self, page: Page, origin: str) -> None:
        self.origin = origin
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.failed_replies_expected = False
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        failed = message.text.startswith(FAILED_REPLY)
        expected = failed and (self.failed_replies_expected or NETWORK_CHANGED in message.text)
        if message.type in ("error", "warning") and not expected:
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:")):
            self.elsewhere.append(request.url)


@contextmanager
def opened(browser: Browser, origin: str, **context: Any) -> Iterator[tuple[Page, Seen]]:
    """The page at `origin`, in a fresh profile; motion is reduced. `context`: as Browser.new_context."""
    made = browser.new_context(ignore_https_errors=True, reduced_motion="reduce", **context)
    try:
        page = made.new_page()
        page.set_default_timeout(patient(15) * 1000)
        seen = Seen(page, origin)
        page.goto(f"{origin}/")
        yield page, seen
    finally:
        made.close()


def ask(page: Page, question: str) -> None:
    """Types a question and presses Enter."""
    page.get_by_role("searchbox").fill(question)
    page.keyboard.press("Enter")
