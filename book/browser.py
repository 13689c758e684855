"""A headless Chromium for printing and testing the site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start the Chromium named by the environment variable CHROMIUM, or one on the PATH, or else Playwright's own.

    Raises FileNotFoundError, with what to do, if there is none.
    """
    with sync_playwright() as playwright:
        found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), playwright.chromium.executable_path]
        path = next(filter(None, found))
        if not os.path.exists(path):
            raise FileNotFoundError("no Chromium: install your system's chromium package, or set CHROMIUM to its path")
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


def opened(context: BrowserContext, address: str, page: Page | None = None) -> Page:
    """Load a page and wait until its mathematics is set."""
    page = page or context.new_page()
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise")
    return page
