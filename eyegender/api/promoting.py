"""`eyegender.promote`: makes a run's model the champion of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.api.running import ConfigOf
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from eyegender.api.overrides import Overrides
    from eyegender.api.training import TrainResult
    from eyegender.registry.promotion import Promotion


def promote(
    run: str | TrainResult,
    *,
    name: str = "eyegender",
    alias: str = "champion",
    force: bool = False,
    overrides: Overrides = None,
) -> Promotion:
    """Register the model of a tested run and move the alias to it, as `eyegender promote` does.

    Args:
        run: a result of `train`, or the id of a run in MLflow.
        name: name of the registered model.
        alias: its alias; `models:/NAME@ALIAS` is then this model.
        force: promote even if the current champion is better or was tested on other images.
        overrides: keys of `tracking`, for a store elsewhere.

    Raises:
        UserError: there is no such run, it was not tested, or the champion is better.
    """
    with ConfigOf("promote", ("tracking",)).opened() as config:
        given = {"run": run_id_of(run), "name": name, "alias": alias, "force": force}
        cfg = config.composed([*config.lines(given), *config.lines(overrides)])
        from eyegender.core.options import PromoteOptions
        from eyegender.core.schema import parse_as

        options = parse_as(cfg, PromoteOptions)
        from eyegender.registry.promotion import promote as promote_run
        from eyegender.tracking.tracking_store import open_store

        store = open_store(options.tracking)
        return promote_run(store, options.run, name=options.name, alias=options.alias, force=options.force)


def run_id_of(run: str | TrainResult) -> str:
    """The MLflow id of a run."""
    if isinstance(run, str):
        return run
    if not hasattr(run, "run_id"):
        raise UserError(f"a run must be a result of train or the id of a run in MLflow, got {run!r}; give one of them")
    run_id = run.run_id
    if run_id is None:
        raise UserError(f"a run must be in MLflow, got {run!r} without an id; send it with eyegender sync")
    return str(run_id)
