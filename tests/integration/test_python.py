"""eyegender from Python: several calls in one process, from a plain script, with workers and ranks, and interrupted."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl

import eyegender

pytestmark = pytest.mark.integration

TINY = {
    "data.n": 60, "data.size": 32, "data.split.seed": 0, "model.weights": None, "trainer.max_epochs": 2,
    "trainer.batch_size": 16, "trainer": "cpu",
}  # fmt: skip


def script(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a script without a guard, as a newcomer writes it."""
    (folder / "script.py").write_text(textwrap.dedent(code).replace("TINY", repr(TINY)))
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=400, env={**os.environ}
    )


def test_from_training_to_a_promoted_model_in_one_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    environment, handlers = dict(os.environ), logging.root.handlers[:]
    seen: list[int] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
            seen.append(trainer.current_epoch)

    first = eyegender.train(TINY, callbacks=[Watch()])
    second = eyegender.train({**TINY, "seed": 1, "trainer.max_epochs": 1, "output": "second"})
    assert second.output_dir == tmp_path / "second"
    assert seen == [0, 1]
    said = capfd.readouterr().out
    assert said.count("epoch 1/2") == said.count("epoch 1/1") == 1  # no handler of the first call is left
    assert (dict(os.environ), logging.root.handlers) == (environment, handlers)

    written = json.loads((first.output_dir / "metrics.json").read_text())
    assert first.metrics == pytest.approx(written["metrics"])
    with pytest.raises(eyegender.UserError, match="overwrite=true"):
        eyegender.train({**TINY, "output": Path("second")})
    assert {"val/accuracy", "test/accuracy"} <= set(first.metrics)
    assert isinstance(first.history, pd.DataFrame)
    assert list(first.history.index) == [1, 2]
    assert first.history["val/accuracy"].max() == pytest.approx(first.metrics["val/accuracy"])
    assert first.run_id == json.loads((first.output_dir / "run.json").read_text())["run_id"] != second.run_id
    assert (first.output_dir / ".hydra/overrides.yaml").is_file()
    assert "epoch 1/2" in (first.output_dir / "train.log").read_text()
    html = first._repr_html_()
    assert f"{first.metrics['test/accuracy']:.4g}" in html
    assert str(first.run_id) in html

    compared = eyegender.compare([first, second], {"latency": False})
    assert set(compared.metrics.index) == {first.run_id, second.run_id}
    assert compared.metrics.loc[first.run_id, "accuracy"] == pytest.approx(first.metrics["test/accuracy"])
    assert compared.page.is_file()
    assert compared.sentences
    assert "accuracy" in compared._repr_html_()

    promotion = eyegender.promote(first, name="pictures")
    assert (promotion.name, promotion.alias) == ("pictures", "champion")
    model = eyegender.load_model("models:/pictures@champion")
    assert model.run_id == first.run_id
    picture = next(first.output_dir.glob("figures/*.png"))
    table, own = model.predict(picture), first.model.predict([picture])
    assert list(table["path"]) == [str(picture)]
    assert table["label"][0] in model.spec.classes
    pd.testing.assert_frame_equal(table, own)
    assert "Sequential" not in repr(model)
    with pytest.raises(eyegender.UserError, match="no run 0"):
        eyegender.promote("0" * 32)


def test_a_failed_call_leaves_nothing_either(tmp_path: Path) -> None:
    environment, handlers = dict(os.environ), logging.root.handlers[:]
    with pytest.raises(eyegender.UserError, match=r"ckpt_path|no file|must"):
        eyegender.train({**TINY, "model.weights": "nowhere.pth"})
    assert (dict(os.environ), logging.root.handlers, Path.cwd()) == (environment, handlers, tmp_path)

    class Broken(pl.Callback):
        def on_train_start(self, *_: object) -> None:
            raise RuntimeError("of the user's callback")

    with pytest.raises(RuntimeError, match="of the user's callback"):  # a bug keeps its type
        eyegender.train(TINY, callbacks=[Broken()])
    assert (dict(os.environ), logging.root.handlers) == (environment, handlers)


def test_a_sweep_its_best_trial_and_its_continuation(tmp_path: Path) -> None:
    space = {**TINY, "trainer.max_epochs": 1, "model.finetune_depth": 0, "model.lr": "tag(log, interval(1e-4, 1e-2))"}
    named = {**space, "hydra.sweeper.study_name": "rates", "hydra.sweeper.plan": False}
    handler = signal.getsignal(signal.SIGINT)
    found = eyegender.sweep({**named, "hydra.sweeper.n_trials": 2})
    assert signal.getsignal(signal.SIGINT) == handler
    assert (found.study_name, found.output_dir) == ("rates", tmp_path / "multirun/rates")
    assert list(found.history["state"]) == ["complete", "complete"]
    assert found.history["model.lr"].between(1e-4, 1e-2).all()
    assert found.best is not None
    assert found.best.metrics["val/accuracy"] == pytest.approx(found.history["value"].max())
    assert "test/accuracy" in found.metrics  # the winner is tested once
    assert found.best.run_id != found.run_id is not None
    assert found.model is not None
    assert "2 complete" in found._repr_html_()
    more = eyegender.sweep({**named, "hydra.sweeper.n_trials": 3, "output": found.output_dir})
    assert more.output_dir == found.output_dir
    assert list(more.history.index) == [0, 1, 2]
    assert len(more.study().trials) == len(eyegender.load_study("rates").trials) == 3
    compared = eyegender.compare(more, {"latency": False})
    # Only the winner was tested, so all trials are compared by their validation.
    assert compared.part == "val"
    assert len(compared.metrics) == 3
    assert found.best.run_id in compared.metrics.index
    assert all(name.startswith("trial ") for name in compared.metrics["run"])
    assert compared.metrics["accuracy"].max() == pytest.approx(more.history["value"].max())
    assert any("from the validation images" in sentence for sentence in compared.sentences)
    tested = eyegender.compare(more, {"latency": False, "split": "test"})
    assert tested.part == "test"
    untested = 3 - len(tested.metrics)
    assert sum("stored no test predictions" in sentence for sentence in tested.sentences) == untested
    failing = {**named, "hydra.sweeper.study_name": "failing", "hydra.sweeper.n_trials": 2}
    failing |= {"hydra.sweeper.custom_search_space": "tests.integration.test_python.no_values"}
    with pytest.raises(
        eyegender.UserError, match=r"too many trials failed \(2\), the first one with trial 0: .*no values"
    ):
        eyegender.sweep(failing)


def no_values(_cfg: object, _trial: object) -> None:
    raise RuntimeError("no values")


def test_a_script_without_a_guard_starts_workers_and_ranks(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
        print("the script begins")
        import eyegender
        found = eyegender.sweep({**TINY, "trainer.max_epochs": 1, "model.finetune_depth": 0, "hydra/launcher": "joblib",
                                 "hydra.sweeper.n_jobs": 2, "sweeps": "grid", "model.lr": "choice(1e-3, 1e-2)"})
        print("trials", len(found.history))
        import logging
        levels = {"optuna": "INFO", "mlflow": "INFO", "pytorch_lightning": "INFO"}  # as after their imports
        assert {name: logging.getLevelName(logging.getLogger(name).level) for name in levels} == levels
        run = eyegender.train({**TINY, "trainer.devices": 2, "trainer.strategy": "ddp", "trainer.max_epochs": 1})
        print("tested", "test/accuracy" in run.metrics, len(run.history))
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the script begins") == 1
    assert "trials 2" in done.stdout
    assert "tested True 1" in done.stdout


def test_an_interrupt_saves_a_checkpoint_and_raises(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
        import os, signal
        import pytorch_lightning as pl
        import eyegender

        class Stop(pl.Callback):
            def __init__(self, number):
                self.number = number

            def on_train_batch_end(self, trainer, module, outputs, batch, index):
                if (trainer.current_epoch, index) == (1, 0):
                    os.kill(os.getpid(), self.number)

        signals = (signal.SIGINT, signal.SIGTERM)
        before = [*map(signal.getsignal, signals)]
        for number in signals:
            try:
                eyegender.train({**TINY, "hydra.run.dir": f"out{int(number)}"}, callbacks=[Stop(number)])
            except (KeyboardInterrupt, SystemExit) as end:
                print("raised", type(end).__name__, getattr(end, "code", None))
        assert [*map(signal.getsignal, signals)] == before
        run = eyegender.train({**TINY, "hydra.run.dir": "more", "ckpt_path": "out2/checkpoints/last.ckpt"})
        print("epochs", len(run.history))
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "raised KeyboardInterrupt None" in done.stdout
    assert "raised SystemExit 143" in done.stdout
    assert "epochs 2" in done.stdout
