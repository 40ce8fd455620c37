"""What the trials of a sweep cost on this machine, by the number of their frozen stages and by what is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from eyegender.features.cut_choice import IMAGES
from eyegender.features.plan import ActivationPlan
from eyegender.features.store import DTYPES
from eyegender.training.autotune import MEASURE_TRAINING_FROM, frozen_stages_dtype, tune_malloc, work
from eyegender.training.build import (
    backbone_class,
    build_data,
    measured_name,
    prepare_model,
    prepare_network,
    trainer_settings,
)
from eyegender.training.stage_seconds import StageTiming

if TYPE_CHECKING:
    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.training.stage_seconds import StageSeconds

# Seconds besides the stages, the head and the optimizer's step: of a step, of an epoch with its checkpoint, and of a
# trial with its MLflow run, its model and its figures.
STEP_SECONDS, EPOCH_SECONDS, TRIAL_SECONDS = 0.003, 0.05, 1.2


@dataclass(frozen=True)
class _Measured:
    """Stages measured in one precision."""

    precision: str
    seconds: StageSeconds


class TrialCosts:
    """What trials cost that could all share the activations that one of them stores.

    Args:
        cfg: config of any of them.
        data: their data, after its `setup`.
        trials: expected number of these trials, from which follows how carefully to measure.

    Raises:
        UserError: the network or its weights cannot be built.
    """

    def __init__(self, cfg: TrainConfig, data: EyesDataModule, trials: float) -> None:
        self.cfg, self.data = cfg, data
        tune_malloc()  # as a run does; steps on a CPU are faster with it
        if cfg.trainer.threads:
            torch.set_num_threads(cfg.trainer.threads)
        settings = trainer_settings(cfg)
        device = torch.device("cuda" if settings.accelerator == "gpu" else "cpu")
        built = prepare_network(cfg, fresh=True)
        self.network = built.network
        module = prepare_model(cfg, data, built).classifier
        self.plan = ActivationPlan(
            cfg, module, data, device,
            compute_dtype=partial(frozen_stages_dtype, cfg, self.network, data.size, device), check=lambda: None,
        )  # fmt: skip
        self.stages = len(self.network.stages)
        self.passes = sum(split.passes for split in self.plan.splits.values())
        self._row_bytes = self._measure_rows()
        self._parameters = [sum(p.numel() for p in stage.parameters()) for stage in self.network.stages]
        timing = StageTiming(
            self.network, measured_name(cfg.model), data.size, cfg.trainer.batch_size, device, self.plan.dtype,
            cfg.features.dtype, "float32", module.augment,
        )  # fmt: skip
        self._measured: list[_Measured] = []
        for precision in self._precisions(settings.precision):
            own = replace(timing, precision=precision)
            self._measured.append(_Measured(precision, own.measure(lambda found: trials * self._run(found, cfg, 0, 0))))

    def _precisions(self, chosen: str) -> list[str]:
        """The precisions of which a long run would take the faster one."""
        images = self.cfg.trainer.max_epochs * len(self.data.split.train)
        if self.cfg.trainer.precision == "auto" and work(images, self.data.size) >= MEASURE_TRAINING_FROM:
            return ["float32", "bfloat16"]
        return ["float32" if chosen == "32-true" else "bfloat16"]

    def _measure_rows(self) -> list[int]:
        """Bytes of one stored image at each cut; those of its pixels at cut 0."""
        item = np.dtype(DTYPES[self.cfg.features.dtype][1]).itemsize
        found = [self.data.size**2]
        x = self.network.normalise(torch.zeros(1, 1, self.data.size, self.data.size))
        with torch.no_grad():
            for cut, stage in enumerate(self.network.stages, start=1):
                x = stage.eval()(x)
                found.append(item * (x.shape[1] if self.plan.is_pooled(cut) else x[0].numel()))
        self.network.train()
        return found

    def nbytes(self, cut: int) -> float:
        """Bytes on disk of everything that is stored at a cut."""
        return float(self.passes * (self._row_bytes[cut] + 4))

    def is_stored(self, cut: int) -> bool:
        """Whether it is stored already."""
        return cut > IMAGES and self.plan.is_stored(cut)

    def compute(self, start: int, cut: int) -> float:
        """Seconds to compute everything that is stored at a cut from what is stored at an earlier one."""
        found = self._measured[0].seconds
        given = found.image if start == IMAGES else found.read * self._row_bytes[start]
        return self.passes * (given + sum(found.frozen[start:cut]))

    def store(self, cut: int) -> float:
        """Seconds to write it."""
        return self._measured[0].seconds.write * self.nbytes(cut)

    def epoch(self, cfg: TrainConfig, start: int, cut: int) -> float:
        """Seconds of an epoch of a trial with this cut, which starts from what is stored at an earlier one."""
        return min(self._epoch(each.seconds, cfg, start, cut) for each in self._measured)

    def run(self, cfg: TrainConfig, start: int, cut: int) -> float:
        """Seconds of a whole trial, except for what it stores."""
        return min(self._run(each.seconds, cfg, start, cut) for each in self._measured)

    def _run(self, found: StageSeconds, cfg: TrainConfig, start: int, cut: int) -> float:
        return self.epochs(cfg) * self._epoch(found, cfg, start, cut) + TRIAL_SECONDS

    def epochs(self, cfg: TrainConfig) -> float:
        """Number of epochs of a trial, a part of one included."""
        trainer = cfg.trainer
        if trainer.max_steps <= 0:
            return trainer.max_epochs
        return min(trainer.max_epochs, trainer.max_steps / self._steps(cfg))

    def _steps(self, cfg: TrainConfig) -> int:
        return math.ceil(len(self.data.split.train) / cfg.trainer.batch_size)

    def _epoch(self, found: StageSeconds, cfg: TrainConfig, start: int, cut: int) -> float:
        frozen = sum(found.forward[start:cut])
        if start == IMAGES:
            given = evaluated = found.image
        else:
            given = evaluated = found.read * self._row_bytes[start]
        train = len(self.data.split.train) * (given + frozen + sum(found.training[cut:]) + found.head)
        val = len(self.data.split.val) * (evaluated + frozen + sum(found.forward[cut:]))
        steps = self._steps(cfg) * (STEP_SECONDS + found.update * sum(self._parameters[cut:]))
        return train + val + steps + EPOCH_SECONDS


def cut_of(cfg: TrainConfig, stages: int) -> int:
    """The number of frozen stages of a run, whose network has this many stages."""
    from eyegender.models.backbone import resolve_depth

    return stages - resolve_depth(cfg.model.finetune_depth, stages, backbone_class(cfg.model).name)


class DataOfTrials:
    """Reads the data of trials, each only once."""

    def __init__(self) -> None:
        self._read: dict[str, EyesDataModule] = {}

    def of(self, cfg: TrainConfig) -> EyesDataModule:
        """The data of a run, after its `setup`.

        Raises:
            UserError: it cannot be read.
        """
        size = backbone_class(cfg.model).check_size(cfg.data.size)
        key = f"{cfg.data.model_dump_json(exclude={'augment', 'size'})} {size} {cfg.seed}"
        if key not in self._read:
            data = build_data(cfg)
            data.setup("fit")
            self._read[key] = data
        return self._read[key]

    def nbytes(self) -> int:
        """Bytes on disk of all decoded images."""
        return sum(
            sum(path.stat().st_size for path in data.store.folder.iterdir() if path.is_file())
            for data in self._read.values()
        )
