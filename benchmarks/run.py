"""Runs every benchmark of this folder, or those named, and writes RESULTS.md beside it.

make bench          or          python benchmarks/run.py [bench_crf.py ...] [--json FILE]

The tables of benchmarks that are not named stay as they are. --json writes those that ran as
{benchmark: {heading: [{column: value, ...}, ...]}}.
"""

import argparse
import datetime
import importlib.metadata
import json
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
    parser.add_argument("--json", type=Path, help="write the tables of this run here as well")
    options = parser.parse_args()
    names = options.names or known
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
    if options.json:
        options.json.write_text(json.dumps({name: rows(tables[name]) for name in names}, indent=1) + "\n")


def rows(text: str) -> dict[str, list[dict]]:
    """Returns the rows of Markdown tables by the heading above them; the first column is "name"."""
    found, head, heading = {}, None, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if head is None:
            head = ["name", *cells[1:]]
        elif set(line) - {"|", "-"}:
            found.setdefault(heading, []).append(dict(zip(head, map(_number, cells), strict=True)))
    return found


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


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
