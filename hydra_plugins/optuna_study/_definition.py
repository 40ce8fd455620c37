"""What a study is, kept with it: opened again with something else, it says what differs and refuses."""

from collections.abc import Mapping
from typing import Any

from ._secrets import hide_override
from ._space import Space


def definition(space: Space, directions: tuple[str, ...], custom_search_space: str | None) -> dict[str, Any]:
    """Search space, directions and fixed overrides as plain data, without secrets."""
    return {
        "directions": list(directions),
        "space": space.described(),
        "custom_search_space": custom_search_space,
        "fixed": sorted(hide_override(line) for line in space.shared),
    }


def with_new_names(stored: Mapping[str, Any] | None, renamed: Mapping[str, str]) -> dict[str, Any] | None:
    """A study's definition as it would be with the names that its keys have now."""
    if stored is None:
        return None

    def new(line: str) -> str:
        key, equals, value = line.partition("=")
        bare = key.lstrip("+~")
        return key[: len(key) - len(bare)] + renamed.get(bare, bare) + equals + value

    space = {",".join(map(new, keys.split(","))): branches for keys, branches in stored.get("space", {}).items()}
    return {**stored, "space": space, "fixed": sorted(map(new, stored.get("fixed", ())))}


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Each difference in a few words; an empty list when it is the same study."""
    found = []
    if stored.get("directions") != wanted["directions"]:
        found.append(f"direction was {_listed(stored.get('directions'))}, now {_listed(wanted['directions'])}")
    before, now = stored.get("space", {}), wanted["space"]
    found += [f"'{key}' was swept, now is not" for key in before if key not in now]
    found += [f"'{key}' was not swept, now is" for key in now if key not in before]
    for key in before:
        if key in now and before[key] != now[key]:
            found.append(f"'{key}' was {_range_text(before[key])}, now {_range_text(now[key])}")
    if stored.get("custom_search_space") != wanted["custom_search_space"]:
        found.append(
            f"custom_search_space was {stored.get('custom_search_space')}, now {wanted['custom_search_space']}"
        )
    was, is_now = set(stored.get("fixed", ())), set(wanted["fixed"])
    found += [f"override {line} is gone" for line in sorted(was - is_now)]
    found += [f"override {line} is new" for line in sorted(is_now - was)]
    return found


def _listed(names: Any) -> str:
    return "+".join(names or ()) or "nothing"


def _range_text(branches: Mapping[str, Any]) -> str:
    from optuna.distributions import json_to_distribution

    parts = []
    for condition, written in branches.items():
        text = str(written)
        if text.startswith("{"):
            shown = json_to_distribution(text)
            fields = ", ".join(f"{key}={value}" for key, value in shown._asdict().items() if value not in (False, None))
            text = f"{type(shown).__name__.removesuffix('Distribution').lower()}({fields})"
        parts.append(text if condition == "else" else f"{condition}: {text}")
    return "; ".join(parts)
