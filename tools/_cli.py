"""What every tool shares: one clear line for a fault of the user's, and a non-zero exit.

The tools import TensorFlow only when there is work to do, so that `--help` answers at once.
"""

import argparse
import os
import sys
from pathlib import Path

# A tool runs from a clone, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# TensorFlow's own start-up chatter is not for the people who run a tool.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kerasseg._cluster import choose_keras
from kerasseg.spec import CollectedDataError, DataError


def parser(doc: str, tensorflow: bool = True, workers: bool = False) -> argparse.ArgumentParser:
    """Returns a parser whose description is the tool's docstring, with defaults shown where there are any.

    With `tensorflow`, TensorFlow is imported once the arguments are parsed: `--help` and a wrong option do not wait
    for it, and its chatter is kept from the output, see `_load_tensorflow`. With `workers`, several processes may train
    together, and Keras 2 is chosen where they do.
    """

    class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
        def _get_help_string(self, action):
            return action.help if action.default in (None, False) else super()._get_help_string(action)

    class Parser(argparse.ArgumentParser):
        def parse_args(self, *args, **kwargs):
            options = super().parse_args(*args, **kwargs)
            if workers:
                choose_keras()
            if tensorflow:
                _load_tensorflow()
            return options

    return Parser(description=doc, formatter_class=Formatter)


def _load_tensorflow() -> None:
    """Imports TensorFlow without its start-up chatter, which it writes to stderr before any setting can silence it."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs now, and says so now
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def run(main, arguments=None) -> None:
    """Calls `main(arguments)`; ends the process with 0 if it went well, 1 after a line per fault, 130 on Ctrl-C."""
    try:
        main(arguments)
    except (DataError, OSError) as error:
        # Of several faults each has its line; whatever else an error holds is put on one.
        first, *more = str(error).splitlines() if isinstance(error, CollectedDataError) else [_one_line(error)]
        print(f"error: {first}", *(f"  {line}" for line in more), sep="\n", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
