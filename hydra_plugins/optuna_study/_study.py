"""What callbacks see of a study."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

    from ._store import Store


class StudyHandle:
    """A study, as plain data that can be read and notes that can be added.

    Args:
    storage: the storage's URL without its password.
    sweep_dir: the command's sweep directory.
    """

    def __init__(self, store: "Store", name: str, directions: tuple[str, ...], sweep_dir: str) -> None:
        self._store = store
        self._id = store.storage.get_study_id_from_name(name)
        self.name = name
        self.storage = store.spec.shown
        self.directions = directions
        self.sweep_dir = sweep_dir

    @property
    def user_attrs(self) -> dict[str, Any]:
        """The study's notes as they are now."""
        return self._store.storage.get_study_user_attrs(self._id)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note something JSON can hold with the study; trials that start later see it in `study_attrs`."""
        self._store.storage.set_study_user_attr(self._id, key, value)

    def load(self) -> "optuna.Study":
        """Optuna's own study, for plots and importances."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self._store.storage)
