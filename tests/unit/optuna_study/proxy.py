"""A real gRPC proxy of Optuna's before a database, and workers that reach the study through it."""

import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from hydra_plugins.optuna_study._budget import Rules
from hydra_plugins.optuna_study._ledger import Ledger, Next
from hydra_plugins.optuna_study._owner import Owner
from hydra_plugins.optuna_study._spec import storage_spec
from hydra_plugins.optuna_study._store import Store

SERVER = """
import sys, optuna
optuna.storages.run_grpc_proxy_server(optuna.storages.RDBStorage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextmanager
def proxy_before(url: str) -> Iterator[str]:
    """The proxy's own URL, while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, url, str(port)])
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def claim_all(url: str, n_trials: int, workers: int) -> Counter[int]:
    """Let so many workers, each a thread with a storage of its own, finish a study; how often each trial was claimed.

    Half of the trials wait in the queue, where all workers find the same one first.
    """
    stores = [Store(storage_spec(url)) for _ in range(workers)]
    study = optuna.create_study(study_name="shared", storage=stores[0].storage)
    for number in range(n_trials // 2):
        study.enqueue_trial({"x": number})
    claimed: list[int] = []
    together = threading.Barrier(workers)

    def work(index: int) -> None:
        owner = Owner("launch", index, "host", 1, f"elsewhere-{index}", "1", heartbeat=600.0)
        ledger = Ledger(stores[index], "shared", Rules(n_trials=n_trials, max_failures=99), owner)
        together.wait()
        while (got := ledger.claim()) is not Next.DONE:
            if isinstance(got, int):
                claimed.append(got)
                with suppress(UpdateFinishedTrialError):  # dropped, as a worker drops it
                    ledger.storage.set_trial_state_values(got, TrialState.COMPLETE, [1.0])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    return Counter(claimed)
