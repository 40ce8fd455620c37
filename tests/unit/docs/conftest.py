"""Makes what lies in `docs/` importable: the generator of the reference, and the examples."""

import sys

from tests.unit.docs.pages import ROOT

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "docs/examples")]
