"""Calling on_study_end in exactly one process, once per completion."""

import time
from dataclasses import replace

from ._attrs import ENDED, ENDING
from ._budget import are_too_many_failures
from ._hooks import Hooks
from ._ledger import Ledger, Standing
from ._owner import Owner
from ._status import StudyStatus, status_of
from ._study import StudyHandle
from ._vigil import Vigil

_LOOK_SECONDS = 0.5


def ended_status(ledger: Ledger, standing: Standing) -> StudyStatus:
    """The study's status, with what only the sweep knows: why it stopped."""
    failed = standing.stopped is not None and are_too_many_failures(standing.counts, ledger.rules)
    # Where a failed trial takes up budget, a study can be complete without a single result.
    return replace(
        status_of(ledger.store, ledger.study_name),
        stopped=standing.stopped,
        gave_up=failed or (standing.complete and not standing.counts.finished),
    )


def end_once(ledger: Ledger, hooks: Hooks, study: StudyHandle, status: StudyStatus) -> str | None:
    """Call on_study_end unless it was called for just these trials, or another process is at it.

    A process that died in the middle of it is found out like a dead worker, and its call is made again.

    Returns:
        What failed, or None.
    """
    storage, study_id = ledger.storage, ledger.study_id
    completion = _completion(status)
    while True:
        with ledger.store.lock(ledger.study_name):
            attrs = storage.get_study_system_attrs(study_id)
            if attrs.get(ENDED) == completion:
                return None
            claim = attrs.get(ENDING) or {}
            holder = Owner.read(claim.get("owner"))
            mine = holder == ledger.owner
            if holder is None or mine or _is_dead(ledger, holder, claim):
                storage.set_study_system_attr(study_id, ENDING, {"owner": ledger.owner.stored(), "beat": 0})
                break
        time.sleep(_LOOK_SECONDS)

    def beat(number: int) -> None:
        storage.set_study_system_attr(study_id, ENDING, {"owner": ledger.owner.stored(), "beat": number})

    vigil = Vigil(storage, ledger.owner.heartbeat)
    vigil.beat_for(beat)
    with vigil.kept():
        failed = hooks.study_end(study, status)
    if failed is None:
        storage.set_study_system_attr(study_id, ENDED, completion)
    storage.set_study_system_attr(study_id, ENDING, None)
    return failed


def _completion(status: StudyStatus) -> list[int]:
    """What tells one completion from another: the last trial that ended, and how many finished."""
    ended = [row.storage_number for row in status.trials if row.state in ("complete", "pruned", "failed")]
    return [max(ended, default=-1), status.counts.finished]


def _is_dead(ledger: Ledger, holder: Owner, claim: dict[str, object]) -> bool:
    return ledger.watch.is_dead("ending", holder, claim, holder.heartbeat)
