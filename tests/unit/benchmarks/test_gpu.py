"""The GPU check without a GPU: its arguments, its time limits, what survives a failure, and the arithmetic of gaps."""

import json
import time

import pytest

from benchmarks import gpu
from benchmarks.gpu_gaps import Event, Gap, during, events_of, idle, launching_threads

# Stands for the process that measures: each part does what its name says in `plan`.
FAKE = """
import json, os, sys, time
pipe, parts, plan = int(sys.argv[1]), sys.argv[3].split(","), {plan!r}
def send(**message): os.write(pipe, (json.dumps(message) + chr(10)).encode())
send(machine="a machine", gpu=True)
for part in parts:
    send(begin=part)
    send(table="Speeds of " + part, row=["way", "speed"])
    send(row=["this", "1.5"])
    if plan.get(part) == "hang": time.sleep(60)
    if plan.get(part) == "die": print("Segmentation fault", flush=True); os._exit(139)
    if plan.get(part) == "fail": send(error="RuntimeError: no memory"); sys.exit()
    send(note="A remark.")
    send(done=part)
"""


def check(tmp_path, monkeypatch, plan, *given):
    monkeypatch.setattr(gpu, "MEASURE", FAKE.format(plan=plan))
    options = gpu.arguments([f"out={tmp_path / 'results.md'}", *given])
    complete = gpu.Check(options, tmp_path).run()
    written = tmp_path / "results.md"
    return complete, written.read_text() if written.exists() else ""


def test_each_part_becomes_a_section_with_the_machine(tmp_path, monkeypatch, capsys) -> None:
    complete, text = check(tmp_path, monkeypatch, {}, "parts=store,training")
    assert complete
    assert text.index("## gpu: store") < text.index("## gpu: training")
    assert text.count("on a machine; load average") == 2
    assert "| this | 1.5   |" in text
    assert "A remark." in text
    assert "Speeds of training" in capsys.readouterr().out


def test_a_part_measured_again_replaces_only_its_own_section(tmp_path, monkeypatch) -> None:
    check(tmp_path, monkeypatch, {}, "parts=store,training")
    _, text = check(tmp_path, monkeypatch, {}, "parts=training")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## gpu: store", "## gpu: training"]


@pytest.mark.parametrize(
    ("how", "error"), [("fail", "RuntimeError: no memory"), ("die", "the process ended: Segmentation fault")]
)
def test_a_failing_part_says_so_in_one_line_and_the_others_go_on(tmp_path, monkeypatch, capsys, how, error) -> None:
    complete, text = check(tmp_path, monkeypatch, {"gaps": how}, "parts=training,gaps,sweep")
    assert not complete
    assert capsys.readouterr().err.splitlines() == [f"benchmarks.gpu: gaps: {error}"]
    assert f"Incomplete: {error}" in text
    assert text.count("| this | 1.5   |") == 3


def test_a_part_beyond_its_limit_keeps_its_rows_and_the_others_go_on(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(gpu.LIMITS, "gaps", 0.5)
    complete, text = check(tmp_path, monkeypatch, {"gaps": "hang"}, "parts=gaps,sweep")
    assert not complete
    assert "benchmarks.gpu: gaps: ended after" in capsys.readouterr().err
    assert text.count("| this | 1.5   |") == 2


def test_all_ends_when_the_seconds_are_over(tmp_path, monkeypatch, capsys) -> None:
    began = time.monotonic()
    complete, text = check(tmp_path, monkeypatch, {"training": "hang"}, "parts=training,sweep", "seconds=2")
    assert not complete
    assert time.monotonic() - began < 30
    assert "no time is left of 2 s; set seconds=N or parts=sweep" in capsys.readouterr().err
    assert "## gpu: training" in text
    assert "## gpu: sweep" not in text


@pytest.mark.parametrize(
    ("argument", "message"),
    [("part=gaps", "arguments are out=.*, got part=gaps"), ("parts=gap", "parts are training.*, got gap"),
     ("size=big", "size must be auto, full or small, got big"), ("seconds=x", "seconds must be a number, got x")],
)  # fmt: skip
def test_a_wrong_argument_is_named(argument, message) -> None:
    with pytest.raises(SystemExit, match=message):
        gpu.arguments([argument])


def test_gaps_are_the_time_in_which_nothing_runs() -> None:
    kernels = [Event(0, 10, "a", "kernel"), Event(5, 8, "inside", "kernel"), Event(30, 40, "b", "kernel")]
    kernels += [Event(44, 50, "c", "gpu_memcpy")]
    share, gaps = idle(kernels)
    assert share == pytest.approx(24 / 50)
    assert gaps == [Gap(10, 30), Gap(40, 44)]
    assert idle([]) == (0.0, [])


def test_a_gap_names_what_the_host_did_in_it() -> None:
    host = [
        Event(8, 20, "cudaStreamSynchronize", "cuda_runtime"), Event(5, 26, "aten::copy_", "cpu_op"),
        Event(6, 25, "aten::_to_copy", "cpu_op"), Event(100, 200, "aten::add", "cpu_op"),
    ]  # fmt: skip
    assert during(Gap(10, 30), host) == "cudaStreamSynchronize 50%, aten::copy_ 80%"
    assert during(Gap(30, 40), host) == "between operators"


def test_threads_that_launch_little_are_left_out() -> None:
    def event(name, thread, start):
        return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": thread, "ts": start, "dur": 2}

    trace = {"traceEvents": [*(event("step", 1, 3 * i) for i in range(20)), event("loads ahead", 2, 0), {"ph": "M"}]}
    assert {e.name for e in launching_threads(json.loads(json.dumps(trace)))} == {"step"}
    assert len(events_of(trace)) == 21
