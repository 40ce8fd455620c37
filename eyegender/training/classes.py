"""What follows from the classes of the data: the stored config, the weights of the loss, the metrics of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eyegender.core.errors import UserError
from eyegender.data.readers import class_names, with_class_names
from eyegender.models.metrics import class_metrics
from eyegender.tracking.names import MOST_CLASSES, class_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eyegender.core.schema import TrainConfig
    from eyegender.data.data_module import EyesDataModule
    from eyegender.models.network import Network
    from eyegender.tracking.predictions import Predictions

# Metrics that two classes have and more do not.
_OF_TWO_CLASSES = {"val/tn", "val/fp", "val/fn", "val/tp"}


def with_classes(cfg: TrainConfig) -> TrainConfig:
    """The config with the classes that the data source finds, if it names none, after a check that they fit it.

    Raises:
        UserError: the source does not exist, or a metric or a weight is not one of these classes.
    """
    data = with_class_names(cfg.data)
    if data is not cfg.data:
        written = cfg.written
        found: dict[str, Any] = {**written, "data": {**written["data"], "classes": data.reader.arguments["classes"]}}
        cfg = cfg.model_copy(update={"data": data})
        cfg._written = found
    check_classes(cfg, class_names(cfg.data) or ("0", "1"))
    return cfg


def check_classes(cfg: TrainConfig, classes: Sequence[str]) -> None:
    """Check the options that depend on the number of classes.

    Raises:
        UserError: a metric exists for two classes only, or `model.pos_weight` does not fit the classes.
    """
    if len(classes) > 2:
        keys = [("monitor", cfg.monitor), *(("objectives", name) for name in cfg.objectives or ())]
        for key, name in keys:
            if name in _OF_TWO_CLASSES:
                raise UserError(
                    f"{key} must be a metric of {len(classes)} classes, got {name}; set val/accuracy or val/f1"
                )
    class_weights(cfg, classes, np.ones(len(classes), dtype=np.int64))


def class_weights(cfg: TrainConfig, classes: Sequence[str], counts: NDArray[np.int64]) -> float | list[float]:
    """The weight of label 1 in the training loss; of each class, if there are more than two.

    Args:
        cfg: config of the run.
        classes: the class names in the order of the labels.
        counts: number of training images of each class.

    Raises:
        UserError: `model.pos_weight` does not fit the classes.
    """
    weight = cfg.model.pos_weight
    if len(classes) == 2:
        if isinstance(weight, dict):
            raise UserError(
                f"model.pos_weight must be the weight of class {classes[1]!r} or balanced for two classes, got "
                f"{weight}; set a number"
            )
        return float(counts[0] / max(counts[1], 1)) if weight == "balanced" else weight
    if weight == "balanced":
        return [float(counts.sum() / (len(classes) * max(count, 1))) for count in counts.tolist()]
    if isinstance(weight, dict) and set(weight) <= set(classes):
        return [weight.get(name, 1.0) for name in classes]
    if weight != 1:
        raise UserError(
            f"model.pos_weight must be balanced or weights by class for {len(classes)} classes, got {weight}; set "
            f"'model.pos_weight={{{classes[0]}: 2}}', where the other classes weigh 1"
        )
    return [1.0] * len(classes)


def check_outputs(data: EyesDataModule, network: Network) -> None:
    """Raises UserError if the network was built for another number of classes than the data has."""
    classes = len(data.samples.classes)
    if max(2, network.outputs) != classes:
        raise UserError(
            f"a data source must tell its classes before it is read if they are not two, got {classes} from "
            f"{type(data.reader).__name__}; give it a method class_names"
        )


def named_class_metrics(predictions: Predictions) -> Mapping[str, float]:
    """Precision, recall, specificity, F1 and AUROC of each class, such as `test/recall/NAME`; none for two classes.

    An undefined value is left out, and so is everything if there are more than `MOST_CLASSES` classes.
    """
    classes = predictions.classes
    if not 2 < len(classes) <= MOST_CLASSES or np.isnan(predictions.probabilities).any():
        return {}
    names = class_keys(classes)
    return {
        f"test/{metric}/{name}": float(value)
        for metric, values in class_metrics(predictions.labels, predictions.probabilities).items()
        for name, value in zip(names, values.tolist(), strict=True)
        if not np.isnan(value)
    }
