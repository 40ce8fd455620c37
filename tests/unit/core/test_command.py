"""What `core.command` does with a command line before Hydra gets it."""

from __future__ import annotations

import hydra
import pytest

from eyegender.core.command import prepare_arguments
from eyegender.core.errors import UserError


def test_the_private_parser_of_hydra_is_the_one_of_version_1_3() -> None:
    # hydra._internal.utils.get_args_parser, and the copy of the ConfigStore that `command` prevents.
    assert hydra.__version__.startswith("1.3."), "check the use of Hydra's private names in eyegender/core/command.py"
    arguments = ["--cfg", "job", "-m", "seed=1,2", "--config-dir", "conf"]
    assert prepare_arguments(arguments) == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun would run whatever code its file holds"),
        (["--experimental-rer=x.pickle"], "--experimental-rerun would run whatever code its file holds"),
        (["--nonsense"], "put Hydra's flags before the overrides"),
    ],
)
def test_a_flag_that_hydra_must_not_get_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_arguments(arguments)
