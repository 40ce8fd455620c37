"""The look of every HTML page: one stylesheet, with the colours of the figures, and one frame around the content."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_STYLESHEET = Path(__file__).with_name("page.css")
_TEMPLATES = Path(__file__).with_name("templates")


@cache
def page_css() -> str:
    """The stylesheet. Pages contain it, because they must look the same as a single file without a network."""
    return _STYLESHEET.read_text(encoding="utf-8")


def render_page(template: Path, **values: object) -> str:
    """A page from a Jinja2 template that extends `page.html`; everything in `values` is escaped.

    Args:
        template: file of the template, which fills the blocks `title`, `style` and `body`.
        values: what the template uses; one that it lacks is an error.
    """
    page: str = _environment(template.parent).get_template(template.name).render(values)
    return page


@cache
def _environment(folder: Path) -> Environment:
    # Jinja2 comes with MLflow and torch. It is imported here because most of what imports this module draws no page.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES]), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["page_css"] = page_css()
    return environment
