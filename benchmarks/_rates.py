"""Rates of endless sources of images, sampled in turn in one process, so that a change of the machine meets all."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WARM_UP_S = 1.0
"""Not counted at the beginning of each sample: buffers fill, tf.data finds its parallelism."""


def sampled(sources: dict[str, Callable[[], Iterator]], images: int, rounds: int, seconds: float = 3.0) -> dict:
    """Returns samples of the rates of endless iterators, see `_in_turn`.

    Args:
        sources: Each returns an iterator when called, once for every sample, so that nothing is read ahead while
            another source is timed.
        images: Held by each element of an iterator.
        rounds: Samples of each source.
        seconds: Length of a sample, after its warm-up.
    """

    def sample(source):
        iterator = source()
        for _ in range(2):
            next(iterator)
        begin = time.perf_counter()
        while time.perf_counter() - begin < WARM_UP_S:
            next(iterator)
        count, meter = 0, _Meter()
        while meter.seconds() < seconds:
            next(iterator)
            count += images
        return meter.read(count)

    return _in_turn(sources, sample, rounds)


def repeated(calls: dict[str, Callable[[], object]], images: int, rounds: int) -> dict:
    """Returns samples of the rates of calls that each deal with so many images, see `_in_turn`; one call warms up."""

    def sample(call):
        meter = _Meter()
        call()
        return meter.read(images)

    for call in calls.values():
        call()
    return _in_turn(calls, sample, rounds)


def _in_turn(subjects, sample, rounds) -> dict[str, dict[str, list[float]]]:
    """Returns for each subject a list of each measure; every round takes them in turn, every other one in reverse."""
    samples = {name: {} for name in subjects}
    for turn in range(rounds):
        for name in list(subjects)[:: -1 if turn % 2 else 1]:
            for measure, value in sample(subjects[name]).items():
                samples[name].setdefault(measure, []).append(value)
    return samples


class _Meter:
    """Reads the clock, this process's processor time and the machine's from now on."""

    def __init__(self):
        self._begin, self._own, self._machine = time.perf_counter(), _own_cpu_s(), machine_cpu_s()

    def seconds(self) -> float:
        return time.perf_counter() - self._begin

    def read(self, images: int) -> dict[str, float]:
        """Returns images a second, milliseconds of processor time per image, and how many cores others kept busy."""
        seconds, own, machine = self.seconds(), _own_cpu_s() - self._own, machine_cpu_s() - self._machine
        return {
            "images_per_s": images / seconds,
            "cpu_ms": 1000 * own / images,
            "others_cores": max(0.0, machine - own) / seconds,
        }


def _own_cpu_s() -> float:
    """Processor time of this process and of those that it started."""
    times = os.times()
    total = time.process_time() + times.children_user + times.children_system
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def machine_cpu_s() -> float:
    """Processor time of all processes since the start; 0 where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def summary(samples: dict[str, dict], references: tuple[str, ...]) -> dict[str, dict]:
    """Returns the samples with their medians and, for each reference, the median of the rounds' ratios to it.

    The "cpu_ratios" are of the least processor times per image, which other processes change less.
    """
    rows = {}
    for name, sample in samples.items():
        rates = sample["images_per_s"]
        rows[name] = {
            "median_images_per_s": statistics.median(rates),
            "max_images_per_s": max(rates),
            "min_cpu_ms": min(sample["cpu_ms"]),
            "ratios": {
                reference: statistics.median(
                    mine / theirs for mine, theirs in zip(rates, samples[reference]["images_per_s"], strict=True)
                )
                for reference in references
                if reference in samples
            },
            "cpu_ratios": {
                reference: min(samples[reference]["cpu_ms"]) / min(sample["cpu_ms"])
                for reference in references
                if reference in samples
            },
            **sample,
        }
    return rows


def table(rows: dict[str, dict], skipped: dict[str, str]) -> str:
    """Returns a Markdown table of a summary, and what could not run."""
    references = list(next(iter(rows.values()))["ratios"])
    head = ["", "images/s median", "best", "CPU ms per image", *(f"x {name}" for name in references)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        cells = [f"{row['median_images_per_s']:.0f}", f"{row['max_images_per_s']:.0f}", f"{row['min_cpu_ms']:.2f}"]
        cells += [f"{row['ratios'][other]:.2f} ({row['cpu_ratios'][other]:.2f})" for other in references]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    others = [value for row in rows.values() for value in row["others_cores"]]
    lines.append("")
    lines.append(
        f"Higher rates are better. {len(others) // len(rows)} samples of each in turn; ratios are medians over the "
        f"rounds, in brackets by processor time, the least of the rounds. Other processes kept "
        f"{statistics.median(others):.1f} cores busy meanwhile (median; at most {max(others):.1f})."
    )
    lines += [f"\nLeft out: {name}: {reason}" for name, reason in skipped.items()]
    return "\n".join(lines)
