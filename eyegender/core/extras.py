"""Which extra of the package brings something that is not installed: `pip install 'eyegender[cluster]'`."""

from __future__ import annotations

import re
from importlib import metadata, util

_REQUIRED = re.compile(r"([\w.-]+).*\bextra == ['\"]([\w-]+)['\"]")
# Where a module is not called as its distribution.
_MODULES = {"grpcio": "grpc", "psycopg2-binary": "psycopg2"}


def advice(message: str) -> str:
    """What to install, where a message tells of something missing that an extra brings; empty otherwise."""
    if "eyegender[" in message:
        return ""
    if launcher := re.search(r"Could not find 'hydra/launcher/([a-z]+)", message):
        wanted = f"hydra-{launcher[1]}-launcher"
        found = [extra for name, extra in _extras() if name == wanted]
    elif re.search(r"\binstall|\bimport|No module named", message):
        told = set(re.findall(r"[\w-]+", message))
        found = [extra for name, extra in _extras() if {name, _module(name)} & told and _is_missing(name)]
    else:
        return ""
    return f"; pip install 'eyegender[{found[0]}]'" if found else ""


def _extras() -> list[tuple[str, str]]:
    """Each distribution that only an extra asks for, with that extra."""
    try:
        required = metadata.requires("eyegender") or ()
    except metadata.PackageNotFoundError:  # run from its sources
        return []
    return [(found[1], found[2]) for line in required if (found := _REQUIRED.match(line))]


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, distribution.replace("-", "_"))


def _is_missing(distribution: str) -> bool:
    return util.find_spec(_module(distribution)) is None
