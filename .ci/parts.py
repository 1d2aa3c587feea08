"""The checks of a submission, in order of value, within a time limit.

    python3 .ci/parts.py            # all that fits
    python3 .ci/parts.py --list     # what would run, and the usual times
    python3 .ci/parts.py --only "make test" --only sweep

A part starts only if its usual time still fits. Usual times are those of two cores that multiply float32 matrices at
210 GFLOP/s. They are multiplied by the time that `make test` took here ÷ its usual time. A part that reaches the limit
is ended and counts as left out, unless the submission depends on it. What was left out is printed with its command.
Needs nothing but Python.
"""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_MINUTES = 80
SWEEPS = 3
"""The long tests are dealt out to this many commits."""


def files(names: str) -> str:
    """Returns the paths of test files."""
    return " ".join(f"tests/test_{name}.py" for name in names.split())


NUMERIC = files(
    "layers backbones deeplab_v3 deeplab_v3_cascade deeplab_v3_plus deeplab_v3_oracle unet segnet inspection "
    "proposal_scores tiled_exactly frozen losses metrics inference views convolutionize"
)
KERAS_2 = files("model_contract layers losses metrics training train_tool watching training_warnings workers")
ADDONS = files("model_contract layers losses metrics backbones addons addons_training three_kerases")
REAL_DATA = files("every_file recipes_on_real_data")
CHROMIUM = (
    "command -v chromium > /dev/null || "
    "{ apt-get update && apt-get install -y --no-install-recommends chromium; } > /dev/null 2>&1"
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A command and what is known of it.

    Attributes:
        minutes: Usual time, installation included.
        needs: A command that installs what it needs; where that fails, the part is left out.
        required: Whether a submission without it has failed.
    """

    name: str
    command: str
    minutes: float
    needs: str = ""
    required: bool = False


def parts(commit_number: int, other_onednn: str = "0") -> list[Part]:
    """Returns the parts, the most valuable first; the long tests' share follows from the number of the commit."""
    share = commit_number % SWEEPS + 1
    others = " ".join(f"--ignore={path}" for path in REAL_DATA.split())
    return [
        Part("lint", "make lint", 1.5, required=True),
        Part("test", "make test", 8, required=True),
        Part(f"numbers with oneDNN {'off' if other_onednn == '0' else 'on'}",
             f'TF_ENABLE_ONEDNN_OPTS={other_onednn} make test TESTS="{NUMERIC}"', 3),
        Part("real data", f'make test-slow TESTS="{REAL_DATA}"', 5),
        Part("tf_keras", f'make test-tf-keras TESTS="{KERAS_2}"', 5),
        Part("tensorflow-addons", f'make test-addons TESTS="{ADDONS}"', 4),
        Part("PyTorch", "make agreement", 1.5, needs="make torch"),
        Part("ONNX", 'make test TESTS="tests/test_onnx.py"', 1, needs="make onnx"),
        Part("browser", 'make test TESTS="tests/test_report_page.py"', 0.5, needs=CHROMIUM),
        Part(f"sweep {share} of {SWEEPS}", f'make test-slow SHARE={share}/{SWEEPS} TESTS="{others}"', 7),
    ]  # fmt: skip


class Clock:
    """The time that is left, and how slow this machine is."""

    def __init__(self, limit_minutes: float, now: Callable[[], float] = time.monotonic):
        self._now, self._end = now, now() + 60 * limit_minutes
        self.slowness = 1.0

    def left(self) -> float:
        """Returns the seconds that are left."""
        return self._end - self._now()

    def fits(self, part: Part) -> bool:
        """Tells whether a part's usual time still fits, on this machine."""
        return 60 * part.minutes * self.slowness <= self.left()


def shell(command: str, timeout_s: float) -> int | None:
    """Runs a command and all that it starts; returns its exit status, or None if it had to be ended."""
    process = subprocess.Popen(["bash", "-c", command], start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        return process.wait(max(timeout_s, 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def run(chosen: list[Part], clock: Clock, execute: Callable[[str, float], int | None] = shell) -> bool:
    """Runs the parts that fit; returns whether none failed and no required one is missing."""
    rows, left_out, sound, start = [], [], True, clock.left()
    for part in chosen:
        why = (
            ""
            if clock.fits(part)
            else f"{60 * part.minutes * clock.slowness:.0f} s do not fit into {clock.left():.0f} s"
        )
        before = clock.left()
        if not why and part.needs and execute(part.needs, min(600, clock.left())) != 0:
            why = "what it needs could not be installed"
        if not why:
            print(f"\n=== {part.name}: {part.command}", flush=True)
            status = execute(part.command, clock.left())
            seconds = before - clock.left()
            if status is None:
                why = f"ended after {seconds:.0f} s"
            else:
                rows.append((part.name, f"{seconds:.0f} s", "passed" if status == 0 else f"FAILED ({status})"))
                sound = sound and status == 0
            if part.name == "test" and status is not None:
                clock.slowness = max(1.0, seconds / (60 * part.minutes))
        if why:
            left_out.append(f"{part.name} ({why}): {part.command}")
            rows.append((part.name, "", "left out"))
            sound = sound and not part.required
    print("\n=== Summary")
    for name, seconds, outcome in rows:
        print(f"{name:28}{seconds:>8}  {outcome}")
    for line in left_out:
        print(f"left out: {line}")
    print(f"{(start - clock.left()) / 60:.1f} minutes; this machine takes {clock.slowness:.1f} times the usual")
    return sound


def commit_number() -> int:
    """Returns how many commits lead to this one; 0 without git or with a shallow clone's first."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-list", "--count", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True)
    return int(result.stdout) if result.returncode == 0 else 0


def onednn_default() -> str:
    """Returns "1" where TensorFlow turns oneDNN on by itself; 0 elsewhere."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    return "1" if {"avx512_vnni", "avx_vnni", "amx_tile"} & set(flags) else "0"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the parts, run none")
    parser.add_argument("--only", action="append", metavar="NAME", help="run the parts whose names begin so")
    parser.add_argument("--minutes", type=float, default=LIMIT_MINUTES, help="time limit (default: %(default)s)")
    options = parser.parse_args(arguments)
    other = os.environ.get("TF_ENABLE_ONEDNN_OPTS", onednn_default())
    chosen = parts(commit_number(), "0" if other == "1" else "1")
    if options.only:
        chosen = [part for part in chosen if part.name.startswith(tuple(options.only))]
    if options.list:
        for part in chosen:
            print(f"{part.minutes:4} min  {part.name:28}{part.command}")
        return 0
    return 0 if run(chosen, Clock(options.minutes)) else 1


if __name__ == "__main__":
    sys.exit(main())
