"""The frame of the benchmarks of networks: contestants in processes of their own, on work whose cost is known."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

CONTESTANTS = """
import time
def slow(seconds, giga=None):
    print("chatter of a library")
    return (lambda: time.sleep(seconds)), giga
def busy(seconds):
    def call():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    return call
def absent():
    import no_such_framework
def broken():
    raise RuntimeError("out of order")
"""
MAIN = """
import sys
sys.path.insert(0, {folder!r})
from _contest import Subject, arguments, run
subjects = [Subject("Sleeping", {contestants!r}, ceiling="ceiling"), Subject("Other", {{"none": ("no:no", {{}})}})]
run(subjects, arguments("Test.", rounds=3).parse_args())
"""


def contest(tmp_path, monkeypatch, contestants):
    (tmp_path / "they.py").write_text(CONTESTANTS)
    (tmp_path / "main.py").write_text(MAIN.format(folder=str(ROOT / "benchmarks"), contestants=contestants))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "main.py", "--only", "sleep", "--json", "out.json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)


def test_contest(tmp_path, monkeypatch):
    done = contest(
        tmp_path,
        monkeypatch,
        {
            "first": ("they:slow", {"seconds": 0.05, "giga": 1.0}),
            "twice": ("they:busy", {"seconds": 0.1}),
            "absent": ("they:absent", {}),
            "ceiling": ("they:slow", {"seconds": 0.025, "giga": 1.0}),
        },
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report) == ["Sleeping"]  # --only
    samples = report["Sleeping"]["samples"]
    assert list(samples) == ["first", "twice", "ceiling"]
    assert report["Sleeping"]["left_out"] == {"absent": "ModuleNotFoundError: No module named 'no_such_framework'"}
    assert all(len(row[key]) == 3 for row in samples.values() for key in ("seconds", "cpu", "others"))
    assert min(samples["first"]["seconds"]) >= 0.05
    assert min(samples["first"]["cpu"]) < 0.02
    assert min(samples["twice"]["cpu"]) >= 0.1
    assert all(row["peak_mib"] >= row["before_mib"] > 5 for row in samples.values())
    lines = {line.split(" | ")[0]: line.split(" | ")[1:] for line in done.stdout.splitlines() if line.startswith("| ")}
    assert [lines["| first"][3], lines["| ceiling"][3]] == ["1.00", ""]
    assert float(lines["| twice"][3]) <= 0.75  # 0.05 of at least 0.1 s, and the sleep's own delay
    assert "Left out: absent: ModuleNotFoundError" in done.stdout
    assert "share of ceiling" in done.stdout
    assert "chatter" not in done.stdout


@pytest.mark.parametrize(("function", "word"), [("broken", "out of order"), ("absent", "no_such_framework")])
def test_a_broken_contestant_ends_it(tmp_path, monkeypatch, function, word):
    done = contest(tmp_path, monkeypatch, {"first": (f"they:{function}", {})})
    assert done.returncode != 0
    assert word in done.stderr
