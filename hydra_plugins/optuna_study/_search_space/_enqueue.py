"""The configurations of `hydra.sweeper.enqueue`, by Optuna's parameter names."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._monitoring._lines import print_line
from .._optuna import contains
from .._trial import StudyError
from ._grammar import bare_key, normalized, value_text

if TYPE_CHECKING:
    from .._settings._reading import Settings
    from ._space import Space


class _EnqueueError(StudyError):
    """An enqueued configuration sets a key that is not swept, or to a value outside its range."""

    def __init__(self, message: str, key: str, *, swept: bool) -> None:
        super().__init__(message)
        self.key = key
        self.swept = swept


def enqueued(space: "Space", settings: "Settings", *, quiet: bool = False) -> Iterator[dict[str, Any]]:
    """The parameters of the configurations to run first.

    An entry of a file that contradicts the command line is skipped with a message.
    """
    declared = {bare_key(part) for key in (*settings.params, *settings.search_space) for part in str(key).split(",")}
    for entry in settings.enqueue:
        try:
            yield _parameters_of(space, entry)
        except _EnqueueError as error:
            overridden = error.key in (space.from_command_line if error.swept else declared)
            if settings.enqueue_from_command_line or not overridden:
                raise
            if not quiet:
                print_line(f"skipped an enqueued configuration: {error}")


def _parameters_of(space: "Space", entry: Mapping[str, Any]) -> dict[str, Any]:
    """An enqueued configuration by Optuna's parameter names, which include conditions."""
    wanted = {bare_key(str(key)): value for key, value in entry.items()}
    values = {**space.fixed_values, **{key: normalized(value_text(value)) for key, value in wanted.items()}}
    found: dict[str, Any] = {}
    for parameter in space.parameters:
        branch = parameter.branch(values)
        for key in map(bare_key, parameter.keys):
            if key in wanted and branch is not None and branch.domain is not None:
                value = wanted.pop(key)
                distribution = branch.domain.distribution
                if not contains(distribution, value):
                    message = f"hydra.sweeper.enqueue sets '{key}' to {value}, outside its range {distribution}"
                    raise _EnqueueError(message, key, swept=True)
                found[branch.name] = value
    if wanted:
        key = next(iter(wanted))
        raise _EnqueueError(f"hydra.sweeper.enqueue sets '{key}', which this study does not sweep", key, swept=False)
    return found
