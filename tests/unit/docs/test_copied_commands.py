"""What the copy button takes from a console block; tests/integration/test_docs_site.py presses it."""

from __future__ import annotations

import markdown
import pytest
import yaml
from copied_commands import commands, on_page_content

from tests.unit.docs.pages import ROOT, commands_in


@pytest.mark.parametrize(
    ("block", "copied"),
    [
        ("$ make train", "make train"),
        ("$ one   # what it does\n$ two '#3' a#b", "one\ntwo '#3' a#b"),
        ("$ one\nits output\n$ two\n\nmore $ output", "one\ntwo"),
        ("$ one \\\n    a=1 \\\n    b=2\noutput", "one \\\n    a=1 \\\n    b=2"),
        ('$ echo "a # b\n> c"\nout', 'echo "a # b\nc"'),
        (r"$ echo \# \' # it's" + "\n$ two", "echo \\# \\'\ntwo"),
        ("only output", ""),
    ],
)
def test_neither_prompt_nor_comment_nor_output_is_copied(block: str, copied: str) -> None:
    assert "\n".join(commands(block)) == copied


def test_the_page_says_what_is_copied() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert "docs/copied_commands.py" in config["hooks"]
    options = next(one for one in config["markdown_extensions"] if "pymdownx.highlight" in one)
    block = "```console\n$ eyegender train 'model.lr=interval(1e-5,1e-2)' \\\n    seed=1\nDone & <over>\n```\n"
    extensions = ["pymdownx.highlight", "pymdownx.superfences"]
    html = markdown.markdown(block + block.replace("$ ", ""), extensions=extensions, extension_configs=options)
    made = on_page_content(html)
    assert made.count("data-copy=") == 1
    assert 'data-copy="eyegender train &#x27;model.lr=interval(1e-5,1e-2)&#x27; \\\n    seed=1">' in made


def test_the_tests_of_the_docs_read_commands_of_several_lines() -> None:
    text = "```console\n$ eyegender train \\\n    seed=1 # one\nDone\n```\n"
    text += "```shell\nmake train\n# a remark\neyegender sync\n```\n"
    assert commands_in(text) == [["eyegender", "train", "seed=1"], ["make", "train"], ["eyegender", "sync"]]
