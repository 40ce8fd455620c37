"""A real Chromium for tests, and MLflow's pages in it.

With EYEGENDER_SCREENSHOTS=docs/images the screenshots in README and docs are taken again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_serve import free_port, process

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKS = [
    pytest.mark.integration,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
SLOW = 60_000  # milliseconds; nothing is timed, a busy machine may take long
SCREENSHOTS = Path(os.environ["EYEGENDER_SCREENSHOTS"]).absolute() if "EYEGENDER_SCREENSHOTS" in os.environ else None


@contextmanager
def opened_page(width: int = 1440, height: int = 860) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(SLOW)
        # MLflow's page opens an assistant on a first visit; it would cover the columns.
        context.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        try:
            yield context.new_page()
        finally:
            browser.close()


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    if SCREENSHOTS is not None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


@contextmanager
def mlflow_pages(uri: str) -> Iterator[str]:
    """The address of MLflow's pages of a store."""
    address = f"http://127.0.0.1:{free_port()}"
    start = ["mlflow", "ui", "--backend-store-uri", uri, "--workers", "1", "--host", "127.0.0.1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that the page does not need
    with process([*start, "--port", address.rpartition(":")[2]], f"{address}/health", environment):
        yield address
