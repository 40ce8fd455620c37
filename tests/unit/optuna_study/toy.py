"""The task function of the sweeper's tests: a sphere that can fail, be pruned, be slow and resume on demand."""

import os
import signal
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

from hydra_plugins.optuna_study import TrialInterrupted, TrialPaused, TrialPruned, current_trial


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | list[float]:
    value = float(cfg.x) ** 2 + float(cfg.y) ** 2
    trial = current_trial()
    if cfg.mode == "raise" or (cfg.mode == "raise_some" and float(cfg.x) > 0):
        raise RuntimeError("the toy fails")
    if cfg.mode == "not_a_number":
        return float("nan")
    if cfg.mode == "text":
        return "seven"
    if cfg.mode == "two":
        return [value, -value]
    if trial is None:
        return value
    if cfg.mode in ("prune", "prune_and_die"):
        steps(cfg, value)
    if cfg.mode == "two_pruned":
        steps(cfg, value)
        return [value, -value]
    if cfg.mode == "release" and not trial.is_retry:
        trial.set_user_attr("saved", "half of it")
        raise TrialInterrupted("the toy released it")
    if cfg.mode == "out_of_time" and not trial.is_retry:
        from submitit.core.utils import UncompletedJobError

        raise UncompletedJobError("Job not requeued because: timed-out too many times.")
    if cfg.mode == "die":
        # Its worker dies, as if the kernel ran out of memory.
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.mode == "die_once" and not trial.is_retry:
        trial.report(value, 0)
        (Path(trial.directory) / "checkpoint").write_text("step 0")
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.mode == "saves":
        trial.defer_interrupt(60)
        trial.report(value, 0)
        while not trial.interrupted:
            time.sleep(0.05)
        time.sleep(float(cfg.seconds))
        (Path(trial.directory) / "checkpoint").touch()
        raise TrialInterrupted("the toy saved it")
    if cfg.mode == "pauses":
        return pauses(value, int(cfg.steps), int(cfg.signal))
    if cfg.mode == "slow":
        for step in range(int(cfg.steps)):
            if trial.last_step is None or step > trial.last_step:
                time.sleep(float(cfg.seconds))
                trial.report(value, step)
    return value


def steps(cfg: DictConfig, value: float) -> None:
    trial = current_trial()
    assert trial is not None
    for step in range(int(cfg.steps)):
        trial.report(value, step)
        if cfg.mode == "prune_and_die" and (cfg.x, step) in ((3, 3), (7, 0)) and not trial.is_retry:
            os.kill(os.getpid(), signal.SIGKILL)
        if trial.should_prune():
            raise TrialPruned


def pauses(value: float, length: int, signum: int) -> float:
    """A task whose checkpoint is the list of its steps; the first paused trial that continues signals its worker."""
    trial = current_trial()
    assert trial is not None
    checkpoint = Path(trial.directory) / "steps"
    done = len(checkpoint.read_text().splitlines()) if checkpoint.exists() else 0
    trial.set_max_resource(length)
    for step in range(done + 1, length + 1):
        trial.report(value * step, step)
        with checkpoint.open("a") as file:
            file.write(f"{step} of process {os.getpid()}\n")
        if (done, step) == (1, 2) and not trial.is_retry and not (signalled := Path("signalled")).exists():
            signalled.write_text(str(trial.number))
            os.kill(os.getpid(), signum)
        if step < length and trial.should_pause():
            raise TrialPaused
    return value * length


if __name__ == "__main__":
    main()
