"""Parameters that an application's own function suggests: `hydra.sweeper.custom_search_space`."""

import pkgutil

import optuna
from omegaconf import DictConfig

from .._job import as_hydra_config
from .._redaction import redact_override
from .._trial import StudyError
from ._grammar import value_text
from ._space import Space, Suggestion


def add_custom_parameters(
    function: str, config: DictConfig, space: Space, trial: optuna.Trial, suggestion: Suggestion
) -> Suggestion:
    """The suggestion, with what the application's own function adds to it.

    Args:
        function: dotted path of a function (cfg, trial).
        config: the command's config.
        space: search space of the sweep.
        trial: the trial, with the values of the suggestion.
        suggestion: what the search space suggests.

    Raises:
        StudyError: the function suggests a key that is fixed.
    """
    from hydra.utils import get_method

    before = set(trial.params)
    for line in space.shared:
        # hydra-optuna-sweeper shows fixed values to the function as user attributes.
        key, _, value = redact_override(line).partition("=")
        if key not in trial.user_attrs:
            trial.set_user_attr(key, value)
    with as_hydra_config(config):
        get_method(function)(config, trial)
    added = {key: value for key, value in trial.params.items() if key not in before}
    fixed = {line.partition("=")[0] for line in space.shared} & set(added)
    if fixed:
        raise StudyError(f"custom_search_space must not suggest what is fixed, got {', '.join(sorted(fixed))}")
    lines = tuple(f"{key}={value_text(value)}" for key, value in added.items())
    return Suggestion(suggestion.overrides + lines, {**suggestion.params, **added})


def check_function(path: str | None) -> None:
    """Raise StudyError unless the path, if any, names a function."""
    if path is None:
        return
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"hydra.sweeper.custom_search_space must name a function, got {path}: {reason}") from None
    if not callable(found):
        raise StudyError(f"hydra.sweeper.custom_search_space must name a function, got {path}, which is not callable")
