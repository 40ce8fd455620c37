"""`eyegender evaluate`: all test metrics of any trained model on any labeled images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import UserError
from eyegender.core.imports import without_collection

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eyegender.core.options import EvaluateOptions
    from eyegender.inference.evaluation import Evaluation


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Evaluate a model, print its metrics, and write metrics.json, predictions and figures into `options.output`.

    Raises:
        UserError: the model or the data cannot be read, or the output cannot be written.
    """
    from rich.console import Console

    with without_collection():
        from eyegender.core.output_folder import new_folder, remove_old
        from eyegender.inference.evaluation import (
            FIGURES_FOLDER,
            PREDICTIONS_FILE,
            evaluate_model,
            print_evaluation,
            write_evaluation,
        )
        from eyegender.inference.labeled_images import ClassMapping, read_labeled_images
        from eyegender.inference.load import load_model
        from eyegender.training.outputs import METRICS_FILE

    written = (METRICS_FILE, PREDICTIONS_FILE, FIGURES_FOLDER)
    folder = new_folder(options.output, "output", *written, overwrite=options.overwrite)
    if options.grad_cam:
        from eyegender.inference.grad_cam import check_installed, explain_most_wrong

        check_installed()
    model = load_model(options.model, options.tracking)
    split = options.split or ("all" if options.data else "test")
    if options.data is not None:
        mapping = ClassMapping(model.spec.classes, options.classes or {})
        images = read_labeled_images(options.data, split, options.seed, model.spec, mapping)
    elif model.config is not None:
        images = read_labeled_images(model.config.offline_data(), split, model.config.seed, model.spec)
    else:
        raise UserError(
            "data must be given because the model's training data is unknown; add data=folder data.root=DIR"
        )
    evaluation = evaluate_model(model, images, split)
    if options.overwrite:
        remove_old(folder, *written)
    write_evaluation(evaluation, folder)
    if options.grad_cam:
        explain_most_wrong(model, images, evaluation.predictions, options.grad_cam, folder)
    print_evaluation(evaluation, Console())
    print(f"Output   {folder}")
    return evaluation


@command("evaluate", groups=("data", "tracking"))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import EvaluateOptions
    from eyegender.core.schema import parse_as
    from eyegender.data.readers import check_source

    options = parse_as(cfg, EvaluateOptions)  # before torch is imported, so that a mistake is reported at once
    if options.data is not None:
        check_source(options.data)
    elif options.classes is not None:
        raise UserError("classes maps the class names of data, got no data; add data=, or remove classes=")
    evaluate(options)


if __name__ == "__main__":
    main()
