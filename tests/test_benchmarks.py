"""The benchmarks of data run, on few generated pictures, and write down what they measured."""

import json
import os
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


def test_a_page_keeps_what_lies_outside_the_marks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from _marks import write_marked

    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- one -->\nold\n<!-- /one -->\n\n<!-- two -->\n<!-- /two -->\nend\n")
    write_marked(page, {"one": r"a \1 |", "two": "b\nc"})
    assert page.read_text() == ("# A\n<!-- one -->\na \\1 |\n<!-- /one -->\n\n<!-- two -->\nb\nc\n<!-- /two -->\nend\n")
    with pytest.raises(ValueError, match="has no marks <!-- three -->"):
        write_marked(page, {"three": ""})


def test_tables_become_json(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import run

    tables = run._tables((ROOT / "benchmarks" / "RESULTS.md").read_text())
    assert {path.name for path in (ROOT / "benchmarks").glob("bench_*.py")} == set(tables)
    found = {name: run.rows(table) for name, table in tables.items()}
    assert all(rows and all(len(row) > 2 for row in rows) for tables in found.values() for rows in tables.values())
    assert all(found.values())
    metrics = found["bench_metrics.py"]["Confusion matrix of 8 x 513x513, 21 classes"]
    assert [row["name"] for row in metrics][0] == "kerasseg MeanIoU"
    assert metrics[0]["median ms"] / metrics[2]["median ms"] == pytest.approx(metrics[0]["÷ Keras MeanIoU"], abs=0.01)


@pytest.mark.slow
def test_the_curves_of_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASSEG_TEST_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scaling_pipeline

    options = ["--rounds", "1", "--seconds", "0.1", "--images", "24", "--measure", "cores"]
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling_pipeline.py"), *options]
    points = list(scaling_pipeline._points(command))
    assert [(p["value"], p["engine"]) for p in points] == [
        (len(os.sched_getaffinity(0)), engine) for engine in scaling_pipeline.ENGINES
    ]
    assert all(p["rate"] > 0 and p["cpu_ms"] > 0 for p in points)
    assert scaling_pipeline.table(points).count("core(s)") == 1
