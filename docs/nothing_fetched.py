"""Refuses to build a page that a browser would complete from the web: fonts, scripts, styles, pictures, frames."""

from __future__ import annotations

import re
from typing import Any

_LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)[^>]*>")


def fetched(page: str) -> list[str]:
    """Addresses on the web that showing the page would ask for; links that a reader may follow are none."""
    return [found[1] for found in _LOADED.finditer(page) if not re.search(r"rel=[\"']?canonical", found[0])]


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001 - MkDocs names them
    """MkDocs' hook."""
    from mkdocs.exceptions import PluginError

    addresses = fetched(output)
    if addresses:
        raise PluginError(f"{page.file.src_uri} would fetch {addresses[0]}; keep it in docs/, or link to it")
    return output
