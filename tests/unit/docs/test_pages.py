"""What README and the site name exists: commands, keys and values, files, links."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import config_reference
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf

from eyegender.__main__ import COMMANDS as COMMAND_NAMES
from eyegender.core import options
from eyegender.core.schema import AuditConfig, TrainConfig, parse_as
from tests.unit.docs.pages import PAGES, ROOT, commands_in, inline_code, links, ours_of

REFERENCE = config_reference.read_reference()
TEXTS = {page.name: ours_of(page) for page in PAGES} | {"reference.md": config_reference.render(REFERENCE)}
COMMANDS = [(name, words) for name, text in TEXTS.items() for words in commands_in(text)]
COMMANDS += [("", shlex.split(code)) for code in inline_code(TEXTS["coming-from.md"]) if code.startswith("eyegender ")]
OURS = sorted({tuple(words[1:]) for _, words in COMMANDS if words[0] == "eyegender" and words[1:2] != []})
# Commands of the system and of others, which the environment need not have.
ELSEWHERE = {"kubectl", "source", "export", "read", "pip", "conda", "createdb", "curl", "echo"}
HYDRAS_GROUPS = {
    "sweeps",
    "hydra/launcher",
    "hydra/sweeper",
    "hydra/sweeper/sampler",
    "hydra/sweeper/pruner",
    "hydra/sweeper/scheduler",
}
# Keys of Hydra that the pages explain.
HYDRAS_KEYS = {"hydra.run.dir"}
# Arguments of classes that are not ours.
OTHERS_KEYS = (
    "hydra.launcher.",
    "optimizer.",
    "scheduler.",
    "hydra.sweeper.sampler.",
    "hydra.sweeper.pruner.",
    "hydra.sweeper.scheduler.",
    "hydra.sweeper.params.",
)
SCHEMAS = {
    "train": TrainConfig,
    "audit": AuditConfig,
    "compare": options.CompareOptions,
    "evaluate": options.EvaluateOptions,
    "predict": options.PredictOptions,
    "promote": options.PromoteOptions,
    "export": options.ExportOptions,
    "export-report": options.ExportReportOptions,
    "demo": options.DemoOptions,
    "study": options.StudyOptions,
    "sync": options.SyncOptions,
}


def test_there_are_commands_to_check() -> None:
    assert len(OURS) > 50
    assert {words[0] for words in OURS} >= {*SCHEMAS}


def one_value(override: str) -> str:
    """A range as its first value: what is composed is one trial."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    value = parsed.value()
    first = value.start if isinstance(value, IntervalSweep) else next(parsed.sweep_string_iterator())
    return f"{parsed.get_key_element()}={first}"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command leaves its configs, its hook and its flags to the process that it usually is."""
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", {**store.repo})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("logging.raiseExceptions", True)
    for name in ("HYDRA_FULL_ERROR", "EYEGENDER_SET_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("STUDY_URL", "sqlite:///study.db")
    monkeypatch.setenv("HOOK", "https://hooks.example/of-the-docs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.chdir(ROOT / "docs/examples")


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_every_command_composes(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *arguments = words
    if command.startswith("-"):
        pytest.skip("an option of eyegender itself; see tests/unit/test_main.py")
    flags: list[str] = []
    if arguments[:1] == ["--config-dir"]:
        flags, arguments = arguments[:2], arguments[2:]
    # Ray's launcher is not among the extras.
    arguments = [argument for argument in arguments if not re.match(r"\+?hydra[/.]launcher(=ray|\.ray\.)", argument)]
    overrides = [one_value(argument) for argument in arguments if argument not in {"-m", "--help", "--cfg", "job"}]
    monkeypatch.setattr(sys, "argv", [command, *flags, "--cfg", "job", *overrides])
    import_module(f"eyegender.{command.replace('-', '_')}").main()
    composed = OmegaConf.create(capsys.readouterr().out)
    assert not OmegaConf.missing_keys(composed) or "--help" in arguments
    schema: Any = SCHEMAS.get(command)
    if schema is not None:
        parse_as(composed, schema)


def test_a_command_that_does_not_compose_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("model.lrr=1", "hydra.sweeper.trials=3", "model=resnet19"):
        monkeypatch.setattr(sys, "argv", ["eyegender.train", "--cfg", "job", wrong])
        with pytest.raises(SystemExit, match="2"):
            import_module("eyegender.train").main()


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_other_command_is_there(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command, *rest in commands_in(TEXTS[page]):
        if command == "make":
            assert re.search(rf"^{re.escape(rest[0])}:", makefile, re.MULTILINE), rest
        elif command == "python":
            ours = rest[0].endswith(".py") and list((ROOT / "docs/examples").glob(f"*/{rest[0]}"))
            assert ours or rest[0] == "-c" or find_spec(rest[1]), rest
        elif command == "eyegender":
            assert rest[:1] == [] or rest[0].startswith("-") or rest[0] in COMMAND_NAMES, rest
        elif command not in ELSEWHERE:
            assert Path(sys.executable).with_name(command).exists(), command


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_file_that_is_named_exists(page: str) -> None:
    ours = ("conf", "sweeps", "eyegender", "hydra_plugins", "docs", "tests", "benchmarks")
    named = [code.rstrip("/") for code in inline_code(TEXTS[page]) if code.split("/")[0] in ours and "/" in code]
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = [code for code in inline_code(TEXTS[page]) if re.fullmatch(r"eyegender(\.\w+)+", code)]
    assert [name for name in modules if not _importable(name)] == []


def _importable(name: str) -> bool:
    module, _, member = name.rpartition(".")
    try:
        if find_spec(name):
            return True
    except ModuleNotFoundError:  # its parent is a module, not a package
        pass
    return hasattr(import_module(module), member)


@pytest.mark.parametrize("page", sorted(set(TEXTS) - {"reference.md"}))  # that one shows values, too
def test_every_key_that_is_named_exists(page: str) -> None:
    known = REFERENCE.paths() | HYDRAS_GROUPS | HYDRAS_KEYS
    groups = "|".join([*REFERENCE.groups, r"hydra\.sweeper"])
    named = []
    for word in (word for code in inline_code(TEXTS[page]) for word in code.split()):
        found = re.match(r"\+?([a-z][\w./]*)=|((?:" + groups + r")(?:\.\w+)+)$", word)
        if found:
            named.append(found[1] or found[2])
    assert [key for key in named if key not in known and not key.startswith(OTHERS_KEYS)] == []


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_link_leads_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    targets = {target.partition("#")[0] for target in links(TEXTS[page])} - {"", "reference.md"}
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_every_file_that_is_included_exists(page: str) -> None:
    included = re.findall(r"^--8.*$", TEXTS[page], re.MULTILINE)
    paths = [re.fullmatch(r'--8<-- "([^"]+)"', line) for line in included]
    assert all(path and (ROOT / path[1]).is_file() for path in paths), included
