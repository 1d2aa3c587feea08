"""Runs every benchmark of this folder and writes RESULTS.md beside it.

make bench          or          python benchmarks/run.py
"""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main():
    how = "All of a table was measured in turn in one run; of times, lower is faster, of rates, higher."
    parts = [f"# Benchmarks\n\n{machine()}\n\n{how}"]
    for path in sorted(FOLDER.glob("bench_*.py")):
        print(f"== {path.name}", flush=True)
        done = subprocess.run([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout)
        parts.append(f"## {path.name}\n{done.stdout}")
    (FOLDER / "RESULTS.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")


def machine() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores of {model}, Python {platform.python_version()}, {versions}."
    )


if __name__ == "__main__":
    main()
