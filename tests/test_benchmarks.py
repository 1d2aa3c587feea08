"""The benchmarks of data run, on few generated pictures, and write down what they measured."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "sources"),
    [
        ("bench_pipeline.py", ["--seconds", "0.2", "--only", "kerasseg,decode only,DeepLab"], 6),
        ("bench_conversion.py", [], 5),
    ],
)
def test_benchmark(tmp_path, monkeypatch, name, options, sources):
    monkeypatch.setenv("KERASSEG_TEST_DATA", str(tmp_path))
    options = ["--rounds", "2", "--images", "24", "--json", str(tmp_path / "out.json"), *options]
    command = [sys.executable, str(ROOT / "benchmarks" / name), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert "24 generated pictures" in report["data"]
    assert len(report["sources"]) >= sources
    for row in report["sources"].values():
        assert len(row["images_per_s"]) == 2
        assert 0 < row["median_images_per_s"] <= row["max_images_per_s"]
        assert row["min_cpu_ms"] > 0
    assert all(f"| {source} |" in result.stdout for source in report["sources"])
