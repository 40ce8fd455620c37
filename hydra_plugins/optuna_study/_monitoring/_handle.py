"""The study as callbacks of a sweep see it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

    from .._storage import Storage


class StudyHandle:
    """The study as callbacks see it.

    Args:
        storage: storage of the study.
        name: name of the study.
        directions: minimize or maximize for each objective.
        sweep_dir: sweep directory of the command.
    """

    def __init__(self, storage: "Storage", name: str, directions: tuple[str, ...], sweep_dir: str) -> None:
        self._storage = storage.optuna
        self._id = self._storage.get_study_id_from_name(name)
        self.name = name
        self.storage = storage.spec.shown
        """The URL of the storage, without its password."""
        self.directions = directions
        self.sweep_dir = sweep_dir

    @property
    def user_attrs(self) -> dict[str, Any]:
        """The study's user attributes as they are now."""
        return self._storage.get_study_user_attrs(self._id)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Store a JSON-serializable value with the study; trials that start later see it in `study_attrs`."""
        self._storage.set_study_user_attr(self._id, key, value)

    @property
    def definition(self) -> dict[str, str]:
        """What the sweep searches, without secrets: the range of each swept key, and the value of each fixed one."""
        from .._budget import DEFINITION
        from .._study import range_text

        stored = self._storage.get_study_system_attrs(self._id).get(DEFINITION) or {}
        fixed = (line.lstrip("+~").partition("=") for line in stored.get("fixed", ()))
        return {key: value for key, _, value in fixed} | {
            key: range_text(branches) for key, branches in stored.get("space", {}).items()
        }

    def load(self) -> "optuna.Study":
        """Optuna's own study, for plots and importances."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self._storage)

    def trial(self, storage_number: int) -> "optuna.Trial":
        """A trial of any state as Optuna's own object, for functions of other packages that take one.

        Args:
            storage_number: number of the attempt in the storage.
        """
        import optuna

        # Both do nothing when the object is made.
        sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
        study = optuna.load_study(study_name=self.name, storage=self._storage, sampler=sampler, pruner=pruner)
        return optuna.Trial(study, self._storage.get_trial_id_from_study_id_trial_number(self._id, storage_number))
