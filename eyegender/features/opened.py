"""Stores that this process has open: the next trial of a sweep finds them as the last one left them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from eyegender.core.cache import mark_used
from eyegender.features.store import MANIFEST, ActivationStore, DamagedActivationsError

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 16  # a mapping costs address space only, its checksums a few bytes per row
_opened: OrderedDict[Path, ActivationStore] = OrderedDict()


def open_activations(folder: Path, pictures: int, views: int) -> ActivationStore | None:
    """The finished entry, or None where there is none or it is damaged."""
    store = _opened.pop(folder, None)
    if store is None or not (folder / MANIFEST).exists():
        try:
            store = ActivationStore(folder, pictures, views)
        except DamagedActivationsError:
            return None
    return remember(store)


def remember(store: ActivationStore) -> ActivationStore:
    """Keep it open for whoever wants it next."""
    mark_used(store.folder)
    _opened[store.folder] = store
    while len(_opened) > _MOST:
        _opened.popitem(last=False)
    return store
