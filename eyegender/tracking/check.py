"""What is wrong with a tracking store for good is told before a run begins.

`python -m eyegender.tracking.check ADDRESS` looks at one before MLflow's pages are served from it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
from typing import TYPE_CHECKING

from eyegender.errors import UserError
from eyegender.tracking.embedded import opening
from eyegender.tracking.faults import LOGIN, StoreFaultError, first_line
from eyegender.tracking.patience import request_seconds
from eyegender.tracking.secrets import redact_urls

if TYPE_CHECKING:
    from eyegender.tracking.location import Location

log = logging.getLogger("eyegender")


def check_store(location: Location, seconds: int = 5) -> None:
    """Look at the embedded store, or log in to the server, before the work begins. One that is away may come back.

    Raises:
        StoreFaultError: it will not take anything before somebody repairs it.
    """
    if location.database is not None:
        if location.database.exists():
            with contextlib.suppress(sqlite3.OperationalError), opening(location.database):
                pass
    elif location.uri.startswith(("http://", "https://")):
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            answer = http_request(  # type: ignore[no-untyped-call]
                get_default_host_creds(location.uri),  # type: ignore[no-untyped-call]
                "/api/2.0/mlflow/experiments/search", "GET",
                params={"max_results": 1}, timeout=min(seconds, request_seconds()), max_retries=0,
            )  # fmt: skip
        except Exception as error:  # of whatever kind: the sender says that the store is away, and tries again
            log.debug("tracking: %s", first_line(error))
            return
        if answer.status_code in {401, 403}:
            raise StoreFaultError(
                f"tracking: {redact_urls(location.uri)} must know who is asking, got status {answer.status_code}", LOGIN
            )


def main() -> None:
    from eyegender.tracking.location import find_location

    try:
        check_store(find_location(sys.argv[1]))
    except UserError as error:
        sys.exit(f"eyegender: {error}")


if __name__ == "__main__":
    main()
