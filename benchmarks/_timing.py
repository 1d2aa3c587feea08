"""Timing of alternatives in turn, in one process, so that a change of the machine's speed meets all of them."""

import statistics
import time
from collections.abc import Callable


def interleaved(calls: dict[str, Callable[[], object]], rounds: int = 7, warm_up: int = 2) -> dict[str, dict]:
    """Returns for each named call its minimum and median time in seconds, over `rounds` turns after `warm_up`."""
    times = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: {"min_s": min(t), "median_s": statistics.median(t), "rounds": rounds} for name, t in times.items()}


def table(results: dict[str, dict], reference: str) -> str:
    """Returns a Markdown table of times and of ratios of medians to the reference's."""
    lines = [f"| | min s | median s | ÷ {reference} |", "|---|---|---|---|"]
    for name, row in results.items():
        ratio = row["median_s"] / results[reference]["median_s"]
        lines.append(f"| {name} | {row['min_s']:.3f} | {row['median_s']:.3f} | {ratio:.2f} |")
    return "\n".join(lines)
