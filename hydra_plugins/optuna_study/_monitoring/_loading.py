"""A study as Optuna's own object."""

from typing import TYPE_CHECKING, Any

from .._status import status_of

if TYPE_CHECKING:
    import optuna


def load_study(storage: Any, name: str) -> "optuna.Study":
    """Optuna's own study, for plots and importances, from any storage that the sweeper accepts.

    Args:
        storage: as in `hydra.sweeper.storage`.
        name: name of the study.

    Raises:
        StudyError: the storage cannot be opened or has no such study.
    """
    import optuna

    from .._storage import Storage, storage_spec

    opened = Storage(storage_spec(storage), retry_minutes=0.5)
    status_of(opened, name)
    return optuna.load_study(study_name=name, storage=opened.optuna)
