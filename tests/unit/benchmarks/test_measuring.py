"""The page of results: one section per heading, and nothing that only this machine has."""

import sys

from benchmarks.measuring import report


def test_results_name_no_file_of_this_machine(tmp_path, monkeypatch, capsys):
    page, weights = tmp_path / "RESULTS.md", tmp_path / "network.pth"
    weights.touch()
    given = [f"--eyes={tmp_path}", "--weights", str(weights), "table=curves/a.csv", "seeds=2", "--write"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *given])
    report("search", "first", write=True, path=page)
    report("other", "second", write=True, path=page)
    report("search", "third", write=True, path=page)
    text = page.read_text()
    assert str(tmp_path) not in text
    assert "benchmarks.search --eyes=FOLDER --weights FILE table=curves/a.csv seeds=2 --write` on" in text
    assert text.count("## search") == 1
    assert "third" in text
    assert "first" not in text
    assert capsys.readouterr().out.split() == ["first", "second", "third"]
