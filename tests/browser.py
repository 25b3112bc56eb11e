"""Chromium for tests of pages: headless, and it keeps what a page asks for and complains about.

def test_page(browser: Browser) -> None:
    with browser.page() as page:
        page.goto(url)
        ...
        assert page.complaints == []
        assert page.elsewhere(url) == []
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from tests.programs import need

REBOUND = "rebound.example"  # a name of somebody else's that was made to point here
# Each profile would have a renderer for the address bar and a spare one, which take more time than most pages do. The
# rest is what Playwright turns off: Chromium knows only the last list that it is given.
_UNWANTED = [
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess"),
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *(
        "HttpsFirstBalancedModeAutoEnable",
        "LensOverlay",
        "MediaRouter",
        "PaintHolding",
        "ThirdPartyStoragePartitioning",
    ),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
]
_ARGS = [
    f"--disable-features={','.join(_UNWANTED)}",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000.0  # ms that a page may take for anything that is waited for, on a busy machine


class Seen:
    """What a page has done.

    Attributes:
        page: Playwright's.
        complaints: errors and warnings of its console, and errors that nobody caught.
        urls: all that was asked for, whether by the page, a frame or a worker of it.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.urls: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.context.on("request", lambda request: self.urls.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            where = message.location
            self.complaints.append(f"{message.type}: {message.text} ({where.get('url', '')})")

    def elsewhere(self, *origins: str) -> list[str]:
        """Returns what was asked of other hosts than these; what never leaves the browser does not count."""
        own = {urlsplit(origin).netloc for origin in origins}
        parts = [(url, urlsplit(url)) for url in self.urls]
        return [url for url, part in parts if part.scheme not in ("data", "blob", "about") and part.netloc not in own]


class Browser:
    """A Chromium that runs.

    Attributes:
        chromium: Playwright's.
        version: of Chromium.
        loop: Playwright's event loop, in which each of its calls is made.

    Playwright marks its event loop as the running one of this thread, and then no other loop can run here. So the mark
    is set while a page is open, and taken away when none is: a Chromium can be kept through asynchronous tests.
    """

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium
        self.version = chromium.version
        self.loop = asyncio.get_running_loop()
        self._pages = 0

    @contextlib.contextmanager
    def page(self, **context: Any) -> Iterator[Seen]:
        """Opens a page in a profile of its own.

        Args:
            context: what `playwright.sync_api.Browser.new_context` takes: ``locale``, ``color_scheme``, ``viewport`` …
        """
        with self._in_use():
            profile = self.chromium.new_context(**context)
            profile.set_default_timeout(PATIENCE)
            try:
                yield Seen(profile.new_page())
            finally:
                profile.close()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        self._pages += 1
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                asyncio._set_running_loop(None)


@contextlib.contextmanager
def running() -> Iterator[Browser]:
    """Runs a Chromium."""
    path = need("chromium-headless-shell", "chromium")  # the first is Chromium without its window: half the work
    with sync_playwright() as playwright:
        browser = Browser(playwright.chromium.launch(executable_path=path, args=_ARGS))
        asyncio._set_running_loop(None)
        try:
            yield browser
        finally:
            asyncio._set_running_loop(browser.loop)  # playwright takes the mark away when its loop has ended
            browser.chromium.close()
