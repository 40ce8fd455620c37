from pathlib import Path

import hydra

from hydra_plugins.optuna_study import TrialPruned, current_trial


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    trial = current_trial()  # None without -m
    checkpoint = Path(trial.directory if trial else ".", "checkpoint")
    step, x = (float(word) for word in checkpoint.read_text().split()) if checkpoint.exists() else (0, 1.0)
    while step < cfg.steps:
        step, x = step + 1, x - cfg.lr * 2 * x  # one step of gradient descent on x ** 2
        if trial:
            trial.report(x**2, int(step))  # before the checkpoint: what was reported may be repeated, but not missed
            checkpoint.with_suffix(".new").write_text(f"{step} {x}")
            checkpoint.with_suffix(".new").replace(checkpoint)
            if trial.should_prune():
                raise TrialPruned
    return x**2


if __name__ == "__main__":
    main()
