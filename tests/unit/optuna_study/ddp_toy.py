"""A task that trains in two processes: it starts the second as Lightning does, by repeating the command line."""

import os
import subprocess
from pathlib import Path

import hydra
import torch
import torch.distributed as dist
from omegaconf import DictConfig

from hydra_plugins.optuna_study import TrialPaused, TrialPruned, current_trial


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    trial = current_trial()
    assert trial is not None
    child = None
    if "LOCAL_RANK" not in os.environ:
        # Imported here: the second rank need not wait for it.
        from lightning_fabric.plugins.environments import LightningEnvironment
        from lightning_fabric.strategies.launchers.subprocess_script import _hydra_subprocess_cmd

        assert trial.is_rank_zero
        environment = LightningEnvironment()
        os.environ.update(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(environment.main_port),
            LOCAL_RANK="0",
            NODE_RANK="0",
            WORLD_SIZE="2",
        )
        line, cwd = _hydra_subprocess_cmd(local_rank=1)
        child = subprocess.Popen(line, env={**os.environ, "LOCAL_RANK": "1"}, cwd=cwd)
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        both = [torch.zeros(3, dtype=torch.float64) for _ in range(2)]
        mine = torch.tensor([float(cfg.x), float(cfg.y), trial.number], dtype=torch.float64)
        dist.all_gather(both, mine)
        with Path(trial.directory, f"rank{rank}").open("a") as file:
            file.write(f"{trial.number} {cfg.x} {cfg.y} {both[0].equal(both[1])}\n")
        for step in range((trial.last_step or 0) + 1, int(cfg.steps) + 1):
            # Rank zero decides, all stop.
            trial.report(float(cfg.x) ** 2, step)
            stop = torch.tensor([int(step < cfg.steps and trial.should_pause()), int(trial.should_prune())])
            dist.broadcast(stop, 0)
            if stop[1]:
                raise TrialPruned
            if stop[0]:
                raise TrialPaused
    finally:
        dist.destroy_process_group()
        if child is not None:
            child.wait(timeout=60)
    return float(cfg.x) ** 2 + float(cfg.y) ** 2


if __name__ == "__main__":
    main()
