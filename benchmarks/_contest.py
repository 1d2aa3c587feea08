"""Timing of contestants in turn, each in a process of its own: with its own framework, threads and peak memory.

A contestant is a function, `module:name`, that is called with options and returns a call without arguments, the work to
be timed; or such a call and the billions of operations in it. It raises ImportError where what it needs is not there:
it is then left out, with the reason. Every round asks each contestant in turn, every other round in reverse, so that
changes of the machine's speed meet all of them; ratios are taken within rounds.
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from _rates import machine_cpu_s


class Subject(NamedTuple):
    """What is compared.

    Attributes:
        title: Heading of the table.
        contestants: Name to (`module:function`, its options). The first is what the others are set against.
        ceiling: Name of the contestant that shows what the machine can do; a share of its rate is given.
    """

    title: str
    contestants: dict[str, tuple[str, dict]]
    ceiling: str | None = None


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """Returns the options that benchmarks of subjects have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="subjects whose title has this in it")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"samples of each (default: {rounds})")
    parser.add_argument("--json", type=Path, help="write the samples here")
    return parser


def run(subjects: list[Subject], options: argparse.Namespace) -> None:
    """Times the subjects that the options name, prints their tables, and writes the samples where asked to."""
    report = {}
    for subject in subjects:
        if options.only.lower() not in subject.title.lower():
            continue
        samples, left_out = _sampled(subject, options.rounds)
        report[subject.title] = {"samples": samples, "left_out": left_out}
        print(f"\n### {subject.title}\n\n{_table(subject, samples, left_out)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _sampled(subject, rounds, warm_up=2):
    samples, left_out = {}, {}
    with contextlib.ExitStack() as stack:
        # All begin at once: most of their time goes by in importing.
        started = {name: stack.enter_context(_Process(*call)) for name, call in subject.contestants.items()}
        processes = {}
        for name, process in started.items():
            ready = process.answer()
            if "left_out" in ready and name == next(iter(started)):
                raise RuntimeError(f"{name} cannot run: {ready['left_out']}")
            if "left_out" in ready:
                left_out[name] = ready["left_out"]
            else:
                processes[name], samples[name] = process, {"giga": ready["giga"], "before_mib": ready["mib"]}
        for turn in range(-warm_up, rounds):
            for name in list(processes)[:: -1 if turn % 2 else 1]:
                for measure, value in processes[name].sample().items():
                    if turn >= 0 and measure != "mib":
                        samples[name].setdefault(measure, []).append(value)
                    elif measure == "mib":
                        samples[name]["peak_mib"] = value
    return samples, left_out


def _table(subject, samples, left_out):
    first, *_ = subject.contestants
    lines = [f"| | min s | median s | CPU s | {first} ÷ it | by CPU | peak MiB |", "|---" * 7 + "|"]
    for name, row in samples.items():
        own, other = samples[first], row
        ratio = statistics.median(a / b for a, b in zip(own["seconds"], other["seconds"], strict=True))
        by_cpu = min(own["cpu"]) / min(other["cpu"])
        cells = [f"{min(row['seconds']):.4g}", f"{statistics.median(row['seconds']):.4g}", f"{min(row['cpu']):.4g}"]
        cells += [f"{ratio:.2f}", f"{by_cpu:.2f}"] if name != subject.ceiling else ["", ""]
        lines.append(f"| {' | '.join([name, *cells])} | {row['peak_mib']:.0f} |")
    others = [value for row in samples.values() for value in row["others"]]
    lines.append(
        f"\n{len(samples[first]['seconds'])} samples of each in turn, after two. Ratios are medians over the rounds, "
        f"and of the least processor times. Other processes kept {statistics.median(others):.1f} cores busy meanwhile "
        f"(median; at most {max(others):.1f})."
    )
    if subject.ceiling in samples:
        lines.append(f"\n{_shares(subject.ceiling, samples)}")
    return "\n".join([*lines, *(f"\nLeft out: {name}: {reason}" for name, reason in left_out.items())])


def _shares(ceiling, samples):
    """Says what share of the machine's rate each reaches that says how many operations it has."""

    def rate(row):
        return row["giga"] / min(row["seconds"])

    peak = rate(samples[ceiling])
    shares = [
        f"{name} {rate(row):.0f} ({100 * rate(row) / peak:.0f} %)"
        for name, row in samples.items()
        if row["giga"] and name != ceiling
    ]
    return f"Billions of operations of convolutions a second (share of {ceiling}, {peak:.0f}): {', '.join(shares)}."


class _Process:
    """A contestant at work; asked for samples by a line on its standard input."""

    def __init__(self, function, options):
        self._function = function
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        python, options = options.get("python") or sys.executable, {k: v for k, v in options.items() if k != "python"}
        self._process = subprocess.Popen(
            [python, __file__, function, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def sample(self) -> dict:
        begin = machine_cpu_s()
        print("go", file=self._process.stdin, flush=True)
        answer = self.answer()
        others = (machine_cpu_s() - begin - answer["cpu"]) / answer["seconds"]
        return {**answer, "others": max(0.0, others)}

    def answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._function} ended:\n{self._errors.read().decode(errors='replace')[-3000:]}")
        return json.loads(line)


def _serve(function: str, options: str) -> None:
    """Answers on the first standard output; whatever libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values):
        print(json.dumps(values), file=out, flush=True)

    module, name = function.split(":")
    try:
        call = getattr(importlib.import_module(module), name)(**json.loads(options))
    except ImportError as error:
        answer(left_out=f"{type(error).__name__}: {error}")
        return
    call, giga = call if isinstance(call, tuple) else (call, None)
    answer(giga=giga, mib=_peak_mib())
    for _ in sys.stdin:
        begin, busy = time.perf_counter(), time.process_time()
        call()
        answer(seconds=time.perf_counter() - begin, cpu=time.process_time() - busy, mib=_peak_mib())


def _peak_mib() -> float:
    """Returns the most memory that the process has held so far (Linux: in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    _serve(*sys.argv[1:])
