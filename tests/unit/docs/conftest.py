"""Makes what lies in `docs/` importable: the generator of the reference, and the examples."""

import tests.unit.docs.pages  # noqa: F401 - it does that
