"""The files that people expect in a repository exist and call what they name."""

import re
import subprocess
import tomllib

import yaml

from tests.composing import compose_config
from tests.unit.docs.pages import ROOT


def test_make_alone_prints_every_target():
    done = subprocess.run(["make", "-s", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    printed = re.findall(r"^make ([a-z-]+) +\S", done.stdout, re.MULTILINE)
    assert sorted([*printed, "help"]) == sorted(phony[1].split())


def test_the_licence_is_the_one_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "MIT"
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License")
    assert "the eyegender contributors" in text


def test_the_citation_names_the_package_as_it_is():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])


def test_hooks_and_workflow_call_what_ci_calls():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    ci = (ROOT / ".ci/run").read_text()
    assert all(f"\n{hook['entry']}\n" in ci for hook in hooks)
    steps = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())["jobs"]["check"]["steps"]
    assert any(".ci/run" in step.get("run", "") for step in steps)


def test_the_demo_takes_the_arguments_that_make_shows():
    [shown] = re.findall(r'^demo:.*ARGS="(\S+)"', (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert compose_config(shown, name="demo").models == ["models:/NAME@ALIAS"]


def test_the_page_on_installing_names_every_extra_and_the_wheel():
    page = (ROOT / "docs/install.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == project["optional-dependencies"].keys()
    wheels = set(re.findall(r"\beyegender-[\w.-]+\.whl", page))
    assert wheels == {f"eyegender-{project['version']}-py3-none-any.whl"}
