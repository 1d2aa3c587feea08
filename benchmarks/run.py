"""Runs every benchmark of this folder, or those named, and writes RESULTS.md beside it.

make bench          or          python benchmarks/run.py [bench_crf.py ...]

The tables of benchmarks that are not named stay as they are.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main():
    known = sorted(path.name for path in FOLDER.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    names = parser.parse_args().names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    results = FOLDER / "RESULTS.md"
    tables = _tables(results.read_text()) if results.exists() else {}
    for name in names:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, str(FOLDER / name)], stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout)
        tables[name] = f"{machine()}\n\n{done.stdout.strip()}"
    how = "All of a table was measured in turn in one run; of times, lower is faster, of rates, higher."
    parts = [f"# Benchmarks\n\n{how}", *(f"## {name}\n\n{tables[name]}" for name in sorted(tables))]
    results.write_text("\n\n".join(parts) + "\n")


def _tables(text: str) -> dict:
    """Returns {benchmark: what RESULTS.md says of it}."""
    sections = re.split(r"^## (bench_\w+\.py)$", text, flags=re.MULTILINE)[1:]
    return {name: table.strip() for name, table in zip(sections[::2], sections[1::2], strict=True)}


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
