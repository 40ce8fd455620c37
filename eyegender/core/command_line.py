"""What becomes of a command line before Hydra sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser

from eyegender.core.errors import UserError
from eyegender.core.renamed_keys import with_new_names
from hydra_plugins.optuna_study import without_secrets

if TYPE_CHECKING:
    from typing import NoReturn


def prepared(arguments: list[str]) -> list[str]:
    """The same command line with its passwords in the environment.

    Raises:
        UserError: a flag that Hydra does not know, or the one with which it would unpickle a file.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; put Hydra's flags before the overrides, --hydra-help lists them")

    parser.error = refuse  # type: ignore[method-assign]  # otherwise it prints its usage and exits
    if parser.parse_args(arguments).experimental_rerun is not None:
        raise UserError("--experimental-rerun would run whatever code its file holds; give overrides or ckpt_path=FILE")
    return [without_secrets(argument) for argument in with_new_names(arguments)]
