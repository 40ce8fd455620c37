"""A run goes into a folder without a result; going on needs no overwrite, and no unfinished run loses a checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from eyegender.core.errors import UserError
from eyegender.tracking.journal import CURSOR, JOURNAL
from eyegender.training.output_of_runs import check_run_folder, check_sweep_folder, remove_result

if TYPE_CHECKING:
    from pathlib import Path

END = {"op": "end", "time": 1}


def make_run(folder: Path, status: str | None = "FINISHED", *, sent: bool = True) -> Path:
    """The files of a run; without a status it was killed, or still trains."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        (folder / "checkpoints" / name).write_text(name)
    entries = [{"op": "run", "key": "k"}, *([] if status is None else [{**END, "status": status}])]
    (folder / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / CURSOR).write_text(str((folder / JOURNAL).stat().st_size if sent else 0))
    if status == "FINISHED":
        (folder / "metrics.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_RESTART_COUNT", "RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_a_new_folder_and_one_without_a_result_are_accepted(tmp_path: Path) -> None:
    check_run_folder(tmp_path / "new")
    (tmp_path / ".hydra").mkdir()  # of a run that was refused, for example for a wrong data.root
    (tmp_path / "train.log").write_text("")
    (tmp_path / "checkpoints").mkdir()
    check_run_folder(tmp_path)


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", None])
def test_a_run_never_goes_into_the_folder_of_another_one(tmp_path: Path, status: str | None) -> None:
    run = make_run(tmp_path / "run", status)
    with pytest.raises(
        UserError, match="output must be a folder without a result, got .*run with checkpoints;"
    ) as refused:
        check_run_folder(run)
    assert f"ckpt_path={run}/checkpoints/last.ckpt" in str(refused.value)
    assert ("overwrite=true" in str(refused.value)) == (status == "FINISHED")


@pytest.mark.parametrize("name", ["metrics.json", JOURNAL])
def test_each_file_of_a_result_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"with {name}; set another output="):
        check_run_folder(tmp_path)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_going_on_from_a_checkpoint_in_the_folder_is_no_overwrite(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run", None)
    before = files(run)
    check_run_folder(run, ckpt_path=str(run / "checkpoints" / name))
    check_run_folder(run, ckpt_path=str(run / "checkpoints" / name), overwrite=True)
    remove_result(run, ckpt_path=str(run / "checkpoints" / name))
    assert files(run) == before
    other = make_run(tmp_path / "other")
    with pytest.raises(UserError, match="without a result"):
        check_run_folder(other, ckpt_path=str(run / "checkpoints" / name))


def test_a_requeued_job_goes_on_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", "KILLED")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    before = files(run)
    check_run_folder(run)
    check_run_folder(run, overwrite=True)
    remove_result(run)
    assert files(run) == before


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_only_rank_zero_looks(tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", None)  # begun by rank zero of the same run
    monkeypatch.setenv(variable, "1")
    check_run_folder(run)
    check_run_folder(run, overwrite=True)
    remove_result(run)
    assert (run / "checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "SCHEDULED", None])
def test_overwrite_never_removes_the_checkpoints_of_an_unfinished_run(tmp_path: Path, status: str | None) -> None:
    run = make_run(tmp_path / "run", status)
    before = files(run)
    for refused in (lambda: check_run_folder(run, overwrite=True), lambda: remove_result(run)):
        with pytest.raises(
            UserError, match=r"has not finished; continue it with ckpt_path=.*last.ckpt, or set another"
        ):
            refused()
    assert files(run) == before


def test_a_run_that_was_finished_and_is_being_continued_is_unfinished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / JOURNAL).open("a") as file:
        file.write(json.dumps({"op": "run", "key": "k"}) + "\n")
    assert (run / "metrics.json").exists()
    with pytest.raises(UserError, match="has not finished"):
        check_run_folder(run, overwrite=True)


def test_checkpoints_without_a_journal_are_of_an_unfinished_run_unless_there_are_metrics(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / JOURNAL).unlink()
    check_run_folder(run, overwrite=True)
    (run / "metrics.json").unlink()
    with pytest.raises(UserError, match="has not finished"):
        check_run_folder(run, overwrite=True)


def test_overwrite_keeps_what_the_tracking_store_has_not_received(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sent=False)
    with pytest.raises(UserError, match=r"send it with eyegender sync folder=.*run, or set another output="):
        check_run_folder(run, overwrite=True)


def test_overwrite_removes_the_result_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    check_run_folder(run, overwrite=True)
    assert (run / "checkpoints/best.ckpt").exists()  # the command may still be refused
    remove_result(run)
    assert files(run) == {"notes.txt"}
    remove_result(run)
    remove_result(tmp_path / "new")


def test_a_link_to_checkpoints_elsewhere_is_not_followed(tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "elsewhere")
    run = make_run(tmp_path / "run")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "checkpoints").rmdir()
    (run / "checkpoints").symlink_to(elsewhere / "checkpoints")
    remove_result(run)
    assert (elsewhere / "checkpoints/best.ckpt").exists()
    assert not (run / "checkpoints").is_symlink()


# ---- sweeps


def yes() -> bool:
    return True


def no() -> bool:
    return False


def make_sweep(folder: Path, *statuses: str | None) -> Path:
    folder.mkdir()
    for number, status in enumerate(statuses):
        make_run(folder / str(number), status)
    (folder / "multirun.yaml").write_text("hydra: {}")
    return folder


def test_a_sweep_goes_into_a_folder_without_results(tmp_path: Path) -> None:
    check_sweep_folder(tmp_path / "new", continues=no)
    check_sweep_folder(make_sweep(tmp_path / "begun"), continues=no)  # stopped before its first trial


def test_another_sweep_is_refused_and_the_same_study_goes_on(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", "FINISHED", None)
    before = files(sweep)
    check_sweep_folder(sweep, continues=yes)
    check_sweep_folder(sweep, continues=yes, overwrite=True)
    assert files(sweep) == before
    with pytest.raises(
        UserError, match=r"output must be a folder without results of another sweep, got .*sweep with 0"
    ):
        check_sweep_folder(sweep, continues=no)


def test_a_requeued_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make_sweep(tmp_path / "sweep", None)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    check_sweep_folder(sweep, continues=no)


def test_a_sweep_is_not_written_into_a_single_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without a result"):
        check_sweep_folder(make_run(tmp_path / "run"), continues=no)


def test_overwriting_a_sweep_removes_all_its_results_or_none(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", "FINISHED", "FINISHED", None)
    before = files(sweep)
    with pytest.raises(UserError, match=r"sweep/2 .*has not finished"):
        check_sweep_folder(sweep, continues=no, overwrite=True)
    assert files(sweep) == before
    sweep = make_sweep(tmp_path / "done", "FINISHED", "FINISHED")
    check_sweep_folder(sweep, continues=no, overwrite=True)
    assert files(sweep) == {"0/notes.txt", "1/notes.txt", "multirun.yaml"}
