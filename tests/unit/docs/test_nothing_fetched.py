from __future__ import annotations

import pytest
from nothing_fetched import fetched


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css?family=A">',
        "<link rel=preconnect href=https://fonts.example>",
        '<img alt="x" src="//pictures.example/1.png">',
        '<iframe src="http://video.example/1"></iframe>',
    ],
)
def test_what_a_browser_would_ask_the_web_for_is_found(page: str) -> None:
    assert len(fetched(f"<p>a</p>{page}<p>b</p>")) == 1


def test_links_and_own_files_are_fine() -> None:
    own = '<script src="assets/x.js"></script><link rel="stylesheet" href="style.css"><img src="images/1.png">'
    assert (
        fetched(own + '<a href="https://doi.example/1">the study</a><link rel="canonical" href="https://a.example">')
        == []
    )
