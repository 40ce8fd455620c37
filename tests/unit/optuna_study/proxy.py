"""Optuna's gRPC proxy in front of a database, and workers that use it."""

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

from hydra_plugins.optuna_study._budget import Budget
from hydra_plugins.optuna_study._heartbeat import WorkerId
from hydra_plugins.optuna_study._queue import Claim, TrialQueue
from hydra_plugins.optuna_study._storage import Storage, storage_spec

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
    """Let this many workers, each a thread with its own storage, finish a study; returns the claims of each trial.

    Half of the trials wait in the queue, where all workers find the same one first.
    """
    stores = [Storage(storage_spec(url)) for _ in range(workers)]
    study = optuna.create_study(study_name="shared", storage=stores[0].optuna)
    for number in range(n_trials // 2):
        study.enqueue_trial({"x": number})
    claimed: list[int] = []
    together = threading.Barrier(workers)

    def work(index: int) -> None:
        owner = WorkerId("launch", index, "host", 1, f"elsewhere-{index}", "1", heartbeat=600.0)
        queue = TrialQueue(stores[index], "shared", Budget(n_trials=n_trials, max_failures=99), owner)
        together.wait()
        while (got := queue.claim()) is not Claim.DONE:
            if isinstance(got, int):
                claimed.append(got)
                with suppress(UpdateFinishedTrialError):  # as a worker does
                    queue.storage.set_trial_state_values(got, TrialState.COMPLETE, [1.0])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    return Counter(claimed)
