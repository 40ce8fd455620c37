"""What a slow tracking server costs: the same training with and without a delay before each response.

Run: python -m benchmarks.tracking_latency [--latency 0.2] [--write]
A real MLflow server runs on this machine, behind a proxy that waits before it forwards a request. The result is the
seconds of the fit (reading and training) and of the whole command, which at its end waits until the server has
everything, the model included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import alternate, ratios, report, seconds_of, spread, table
from tests.faults.mlflow_server import Proxy, Server


class SlowProxy(Proxy):
    """Passes every request on after `latency` seconds, and counts them."""

    latency, requests = 0.0, 0

    def _ask(self, request: bytes) -> bytes:
        self.requests += 1
        time.sleep(self.latency)
        return super()._ask(request)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before each answer")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        server.start()
        whole: dict[str, list[float]] = {"at once": [], "late": []}
        requests: dict[str, int] = {}
        try:
            with SlowProxy(server.port) as proxy:
                command = [
                    sys.executable, "-m", "eyegender.train", "tracking=server", f"tracking.uri={proxy.url}",
                    "tracking.close_timeout=300", f"data.n={options.images}", f"data.size={options.size}",
                    f"trainer.max_epochs={options.epochs}", "model.finetune_depth=all", "model.weights=null",
                    "trainer=cpu", "trainer.progress=none",
                ]  # fmt: skip

                def run(way: str, latency: float) -> float:
                    proxy.latency, before = latency, proxy.requests
                    out = folder / f"{way} {len(whole[way])}"
                    taken = seconds_of([*command, f"hydra.run.dir={out}"], folder, EYEGENDER_CACHE=f"{folder}/cache")
                    whole[way].append(taken)
                    requests[way] = proxy.requests - before
                    return float(json.loads((out / "metrics.json").read_text())["fit_seconds"])

                run("at once", 0.0)  # draws the images and measures precision, once for all
                whole["at once"].clear()
                fits = alternate(
                    {"at once": lambda: run("at once", 0.0), "late": lambda: run("late", options.latency)},
                    options.rounds,
                )
        finally:
            server.stop()
    rows = [("answers come", "fit, seconds", "late / at once", "whole command, seconds", "late / at once", "requests")]
    for way, values in fits.items():
        fit = (spread(values, 1), spread(ratios(values, fits["at once"]), 3))
        all_of_it = (spread(whole[way], 1), spread(ratios(whole[way], whole["at once"]), 3))
        rows += [(way, *fit, *all_of_it, str(requests[way]))]
    head = (
        f"{options.images} synthetic images at {options.size} pixels, {options.epochs} epochs, all stages train. "
        f"Late answers come {1000 * options.latency:.0f} ms after each request."
    )
    report("tracking_latency", f"{head}\n\n{table(rows)}", write=options.write)


if __name__ == "__main__":
    main()
