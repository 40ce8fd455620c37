"""`data.download=true` through torchvision's and gdown's real code, against a server on this machine."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from random_images import encode, random_image
from torchvision.datasets import CelebA

from eyegender.core.errors import UserError
from eyegender.core.progress import stoppable
from eyegender.data.celeba import CelebaReader

pytest.importorskip("gdown")
requests = pytest.importorskip("requests")

# The page of Google Drive if a file was downloaded too often.
QUOTA = '<html><p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></html>'
NAMES = [f"{k:06d}.jpg" for k in range(1, 9)]


def annotation(heading: list[str], values: list[str]) -> bytes:
    return "\n".join([*heading, *(f"{n} {v}" for n, v in zip(NAMES, values, strict=True)), ""]).encode()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for k, name in enumerate(NAMES):
            file.writestr(f"img_align_celeba/{name}", encode(random_image(k, 100), "JPEG"))
    return content.getvalue()


def published() -> dict[str, bytes]:
    """CelebA's files for eight faces."""
    count, each = [str(len(NAMES))], range(len(NAMES))
    columns = " ".join(["Male", *(f"Attribute_{k}" for k in range(39))])
    points = " ".join(f"point_{k}" for k in range(10))
    return {
        "img_align_celeba.zip": archive(),
        "list_attr_celeba.txt": annotation([*count, columns], [" ".join(["1" if k % 2 else "-1"] * 40) for k in each]),
        "identity_CelebA.txt": annotation([], [str(k // 2) for k in each]),
        "list_bbox_celeba.txt": annotation([*count, "image_id x_1 y_1 width height"], ["1 1 90 90"] * len(NAMES)),
        "list_landmarks_align_celeba.txt": annotation([*count, points], ["30 40 70 40 50 60 40 80 60 80"] * len(NAMES)),
        "list_eval_partition.txt": annotation([], [str(k % 3) for k in each]),
    }


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes | str]]:
    """The answers of a local Google Drive by file name: bytes are a file, text is a page."""
    files: dict[str, bytes | str] = dict(published())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files[parse_qs(urlsplit(self.path).query)["id"][0].removeprefix("id-of-")]
            body = content.encode() if isinstance(content, str) else content
            self.send_response(200)
            if isinstance(content, str):
                self.send_header("Content-Type", "text/html; charset=utf-8")
            else:
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Disposition", 'attachment; filename="file"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    plain = requests.Session.get

    def here(self: Any, url: str, **options: Any) -> Any:
        parts = urlsplit(url)
        assert parts.hostname in {"drive.google.com", "docs.google.com"}
        return plain(self, f"http://127.0.0.1:{server.server_port}{parts.path}?{parts.query}", **options)

    monkeypatch.setattr(requests.Session, "get", here)
    hashes = [(f"id-of-{name}", hashlib.md5(content).hexdigest(), name) for name, content in published().items()]
    monkeypatch.setattr(CelebA, "file_list", hashes)
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()


def test_missing_files_are_downloaded_once(drive: dict[str, bytes | str], tmp_path: Path) -> None:
    samples = CelebaReader(tmp_path / "data", download=True).read()
    assert len(samples) == 2 * len(NAMES)
    assert samples.persons is not None
    assert samples.labels.sum() == len(NAMES)
    assert {path.name for path in (tmp_path / "data" / "celeba").iterdir()} == {*drive, "img_align_celeba"}
    drive.clear()  # a second download would fail
    assert CelebaReader(tmp_path / "data", download=True).read().digests == samples.digests


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("img_align_celeba.zip", QUOTA, "Too many users have viewed or downloaded this file recently"),
        ("identity_CelebA.txt", "<html><title>Sign in</title></html>", "Cannot retrieve the public link"),
        ("list_attr_celeba.txt", b"cut short", "not found or corrupted"),
    ],
)
def test_a_page_or_a_damaged_file_is_reported_in_one_line(
    drive: dict[str, bytes | str], tmp_path: Path, name: str, answer: bytes | str, message: str
) -> None:
    drive[name] = answer
    with pytest.raises(UserError, match=rf"data.download=true must be able to fetch CelebA .*{message}") as caught:
        CelebaReader(tmp_path, download=True).read()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("put it there and set data.download=false")


def test_a_stop_does_not_wait_for_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    def check() -> None:
        raise StopError

    released = Event()

    def never(_: CelebA) -> None:
        released.wait(60)
        raise RuntimeError("too late")

    monkeypatch.setattr(CelebA, "download", never)
    with stoppable(check), pytest.raises(StopError):
        CelebaReader(tmp_path, download=True).read()
    released.set()
