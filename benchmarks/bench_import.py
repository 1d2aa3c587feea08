"""How long `import kerasseg`, its subpackages and the tools' --help take, each in a process of its own.

    python benchmarks/bench_import.py

Times are what they take beyond an empty process (`python -c pass`), which is measured in turn with them. Processes
begin with warm files: the first round is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "empty process"


def commands() -> dict[str, list[str]]:
    imports = ("kerasseg", "kerasseg.spec", "kerasseg.client", "kerasseg.models", "tensorflow")
    tools = sorted(path for path in (ROOT / "tools").glob("*.py") if not path.name.startswith("_"))
    return (
        {EMPTY: ["-c", "pass"]}
        | {f"import {name}": ["-c", f"import {name}"] for name in imports}
        | {f"tools/{path.name} --help": [str(path), "--help"] for path in tools}
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each (default: 5)")
    parser.add_argument("--only", default="", help="only those with one of these, parted by commas, in their name")
    options = parser.parse_args()
    wanted = (EMPTY, *options.only.split(","))
    chosen = {name: command for name, command in commands().items() if any(part in name for part in wanted)}
    seconds = {name: [] for name in chosen}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    for turn in range(options.rounds + 1):
        for name, command in chosen.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    print("### Start-up, beyond that of an empty process\n\n| | min ms | median ms |\n|---|---|---|")
    for name, taken in seconds.items():
        beyond = [0.0] if name == EMPTY else seconds[EMPTY]
        low, middle = (1000 * (f(taken) - f(beyond)) for f in (min, statistics.median))
        print(f"| {name} | {low:.0f} | {middle:.0f} |")
    print(f"\n{options.rounds} processes of each in turn. The empty process is given as a whole.")


if __name__ == "__main__":
    main()
