import subprocess
import sys

HEAVY = ("optuna", "torch", "sqlalchemy", "mlflow", "pytorch_lightning")


def imported_by(code: str) -> set[str]:
    listing = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_looking_for_plugins_imports_nothing_heavy():
    found = imported_by(
        "from hydra.core.plugins import Plugins\n"
        "from hydra.plugins.sweeper import Sweeper\n"
        "names = [c.__name__ for c in Plugins.instance().discover(Sweeper)]\n"
        "assert 'OptunaStudySweeper' in names, names"
    )
    assert found == set()


def test_asking_for_a_trial_imports_nothing_heavy():
    assert imported_by("from hydra_plugins.optuna_study import current_trial\nassert current_trial() is None") == set()


def test_classes_survive_that_hydra_executes_modules_again():
    # Hydra executes every plugin module without a leading underscore once more; a task's `except` must still match.
    code = (
        "from hydra_plugins.optuna_study import TrialPruned, current_trial\n"
        "from hydra.core.plugins import Plugins\n"
        "Plugins.instance()\n"
        "import hydra_plugins.optuna_study as again\n"
        "assert again.TrialPruned is TrialPruned and again.current_trial is current_trial"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_sampler_and_pruner_of_optunas_has_a_short_name():
    import optuna

    from hydra_plugins.optuna_study.config import PRUNERS, SAMPLERS

    samplers = {c._target_.rpartition(".")[2] for c in SAMPLERS.values()}
    pruners = {c._target_.rpartition(".")[2] for c in PRUNERS.values()}
    # Bases, and one that needs another sampler and fixed values, are no choices of a config.
    wanted = {n for n in optuna.samplers.__all__ if n.endswith("Sampler")} - {
        "BaseSampler", "BaseGASampler", "PartialFixedSampler",
    }  # fmt: skip
    assert wanted <= samplers
    assert {n for n in optuna.pruners.__all__ if n != "BasePruner"} <= pruners
