import pytest

from hydra_plugins.optuna_study import StudyError, current_trial, study_status

from .sweeping import multirun


def test_a_status_has_counts_best_trials_failures_and_workers(sweep):
    inside = []

    def task(cfg):
        if current_trial().number == 2:
            raise MemoryError("no room")
        if current_trial().number == 3:
            inside.append(study_status("sqlite:///study.db", "toy"))
        return current_trial().number

    multirun(task, "hydra.sweeper.n_trials=4", "hydra.sweeper.max_failure_rate=0.5")
    during = inside[0]
    assert (during.counts.complete, during.counts.failed, during.counts.running) == (2, 1, 1)
    assert not during.complete
    assert [(worker.trial, worker.worker) for worker in during.workers] == [(3, 0)]
    assert during.workers[0].seconds_since_heartbeat is not None
    after = study_status("sqlite:///study.db", "toy")
    assert after.complete
    assert [row.number for row in after.best] == [0, 1, 3, 4]
    assert [(row.number, row.reason) for row in after.failures] == [(2, "MemoryError: no room")]
    assert after.workers == []


def test_an_unknown_study_names_the_known_ones(sweep):
    sweep("hydra.sweeper.n_trials=1")
    with pytest.raises(StudyError, match=r"no study 'tyo' in .*known: toy"):
        study_status("sqlite:///study.db", "tyo")
    with pytest.raises(StudyError, match="there is no file"):
        study_status("sqlite:///nothing.db", "toy")


def test_a_study_that_optuna_made_has_a_status_too(tmp_path):
    import optuna

    study = optuna.create_study(study_name="plain", storage="sqlite:///study.db", directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    status = study_status("sqlite:///study.db", "plain")
    assert status.n_trials is None
    assert status.counts.complete == 2
    assert status.best
