"""A real headless browser of this machine, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium; skip the test where there is none, or no Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"needs a browser on the path: {', '.join(_NAMES)}")
    with playwright.sync_playwright() as started:
        # Tests run as root in containers, where Chromium refuses its sandbox.
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def wait_for_count(page: Page, selector: str, count: int) -> None:
    """Wait until so many elements match, for at most a minute.

    Not ``page.wait_for_function``: it evaluates a string in the page, which the pages' policy forbids.
    """
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_count(count, timeout=60_000)
