"""The documentation as a site in a real Chromium: its search, its copy buttons, and the pictures of its first page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.browser import MARKS, SCREENSHOTS, SLOW, opened_page, shoot
from tests.integration.test_terminal import train_in
from tests.unit.docs.pages import ROOT, commands_in

pytest.importorskip("material", reason="mkdocs-material is not installed; make docs installs it")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = MARKS
expect = sync_api.expect


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, as `python -m http.server -d site` serves it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert built.returncode == 0, built.stdout + built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page() -> Iterator[sync_api.Page]:
    with opened_page() as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("notebook", "python.html"),
        ("Python", "python.html"),
        ("own pictures", "pictures.html"),
        ("Windows", "install.html"),
        ("conda", "install.html"),
        ("Keras", "coming-from.html"),
        ("webhook", "tracking.html"),
    ],
)
def test_the_search_finds_the_page_first(words: str, wanted: str, site: str, page: sync_api.Page) -> None:
    page.goto(f"{site}/index.html")
    page.locator("[data-md-component=search-query]").press_sequentially(words)  # the page listens to keys
    results = page.locator(".md-search-result__item > a")
    expect(results.first).to_be_visible(timeout=SLOW)
    found = [re.sub(r".*/|[?#].*", "", link.get_attribute("href") or "") for link in results.all()]
    assert found[0] == wanted, found


@pytest.mark.parametrize("name", ["index", "install", "tracking"])
def test_what_is_copied_can_be_pasted(name: str, site: str, page: sync_api.Page) -> None:
    page.goto(f"{site}/{name}.html")
    blocks = page.locator(".language-console:has(.gp)")
    expect(blocks.first).to_be_visible(timeout=SLOW)
    copied = ""
    for block in blocks.all():
        page.evaluate("navigator.clipboard.writeText('')")
        block.hover()
        block.locator("button[data-clipboard-target], button.md-code__button[title*=Copy]").first.click()
        page.wait_for_function("navigator.clipboard.readText().then(text => text != '')")
        copied += page.evaluate("navigator.clipboard.readText()") + "\n"
    # bash itself says that it can read all of it.
    checked = subprocess.run(["bash", "-n"], input=copied, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    written = commands_in((ROOT / f"docs/{name}.md").read_text())
    text = copied.replace("\\\n", " ")
    assert [shlex.split(line, comments=True) for line in text.splitlines()] == written
    assert not re.search(r"^(\$ |> |None$|\s*#)", copied, re.MULTILINE)


@pytest.mark.parametrize("width", [1440, 390])
def test_the_first_page_shows_a_picture_of_each_thing(width: int, site: str) -> None:
    with opened_page(width) as page:
        page.goto(f"{site}/index.html")
        shots = page.locator(".shots img")
        expect(shots).to_have_count(6)
        for shot in shots.all():
            shot.scroll_into_view_if_needed()
            assert shot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
            assert shot.get_attribute("alt")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for link in page.locator(".shots a").all():
            target = (link.get_attribute("href") or "").partition("#")
            opened = page.request.get(f"{site}/{target[0] or 'index.html'}")
            assert opened.ok
            assert not target[2] or f'id="{target[2]}"' in opened.text(), target


def test_both_columns_of_the_tables_are_on_a_phone(site: str) -> None:
    with opened_page(390) as page:
        page.goto(f"{site}/coming-from.html")
        rights = page.locator("table tr > :nth-child(2)").evaluate_all(
            "cells => cells.map(cell => cell.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert len(rights) > 60
        assert all(0 < left < right <= 390 for left, right in rights)


@pytest.mark.skipif(SCREENSHOTS is None, reason="takes a screenshot for the docs")
def test_the_picture_of_a_terminal(tmp_path: Path) -> None:
    terminal = train_in(100, tmp_path, "trainer.max_epochs=4", "data.n=400")
    assert terminal.end() == 0
    lines = ["$ eyegender train", *terminal.lines]
    folder = str(tmp_path)
    text = escape("\n".join(lines).replace(f"{folder}/", ""))
    style = "background:#1e1e2e;color:#e6e6e6;font:15px/1.45 'DejaVu Sans Mono',monospace;padding:22px;margin:0"
    with opened_page(980, 620) as page:
        page.set_content(f'<body style="margin:0;background:#1e1e2e"><pre style="{style}">{text}</pre></body>')
        shoot(page, "terminal", whole=True)
