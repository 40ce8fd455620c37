from __future__ import annotations

from eyegender.features.prefix import Views
from eyegender.features.store import EntryKey
from eyegender.models.augment import Augment

KEY = EntryKey("a.Backbone", ("s0", "s1", "s2"), "[0.5] [0.5]", 32, "gray", "float16", "torch.float32 cpu")
DIGESTS = ("0a", "1b")


def test_entries_of_version_0_1_are_found() -> None:
    assert KEY.name(1, pooled=False, digests=DIGESTS, views=Views()) == "5ddc9efcf1b2aa12bb50cdd058aecd50"
    views = Views(mirrored=True, draws=2, augment=Augment(), seed=3)
    assert KEY.name(2, pooled=True, digests=DIGESTS, views=views) == "73d2250d07f77cb9c15c62cb87690279"
