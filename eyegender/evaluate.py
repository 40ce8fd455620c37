"""`python -m eyegender.evaluate`: all the test metrics of any trained model on any labelled pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from eyegender.core.options import EvaluateOptions
    from eyegender.inference.evaluation import Evaluation


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Evaluate a model, print its metrics and leave metrics.json, predictions and figures in `options.output`.

    Raises:
        UserError: whatever the user can repair.
    """
    from rich.console import Console

    from eyegender.core.output_folder import new_folder
    from eyegender.inference import evaluation as asking
    from eyegender.inference.class_names import ClassNames
    from eyegender.inference.evaluation_outputs import (
        FIGURES_FOLDER,
        PREDICTIONS_FILE,
        show_evaluation,
        write_evaluation,
    )
    from eyegender.inference.labeled_images import read_labeled_images
    from eyegender.inference.load import load_model
    from eyegender.training.outputs import METRICS_FILE

    folder = new_folder(options.output, "output", METRICS_FILE, PREDICTIONS_FILE, FIGURES_FOLDER)
    if options.grad_cam:
        from eyegender.inference.grad_cam import check_installed

        check_installed()
    model = load_model(options.model, options.tracking)
    part = options.part or ("all" if options.data else "test")
    if options.data is None:
        if model.config is None:
            raise UserError(
                "data must be given: this model does not tell what it was trained on; add data=folder data.root=DIR"
            )
        pictures = read_labeled_images(model.config.offline_data(), part, model.config.seed, model.card)
    else:
        names = ClassNames(model.card.classes, options.classes or {})
        pictures = read_labeled_images(options.data, part, options.seed, model.card, names)
    result = asking.evaluate(model, pictures)
    write_evaluation(folder, result, model, pictures, part)
    if options.grad_cam:
        from eyegender.inference.grad_cam_sheet import explain_most_wrong

        explain_most_wrong(model, pictures, result.table, options.grad_cam, folder)
    show_evaluation(Console(), result, model, pictures, part)
    print(f"Output   {folder}")
    return result


@command("evaluate", groups=("data", "tracking"))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import EvaluateOptions
    from eyegender.core.schema import parse_as
    from eyegender.data.readers import check_source

    options = parse_as(cfg, EvaluateOptions)  # before torch is imported: a mistake shows at once
    if options.data is not None:
        check_source(options.data)
    elif options.classes is not None:
        raise UserError("classes says which class of data is which of the model's, got no data; add data=, or drop it")
    evaluate(options)


if __name__ == "__main__":
    main()
