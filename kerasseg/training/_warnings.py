"""What looks wrong in a training, said once, with what to do."""

import logging
from pathlib import Path

from tqdm import tqdm

_LOGGER = logging.getLogger("kerasseg.training")


class Warnings:
    """Says each kind of warning once: to the logger "kerasseg.training", and into a file.

    Where nobody has set up logging, Python prints a logger's warnings to stderr, the text alone.

    Args:
        path: File that gets a line for each, after those of the process that was killed. None: no file.
    """

    def __init__(self, path: Path | None = None):
        self._path, self._said = path, set()

    def say(self, kind: str, message: str, step: int) -> None:
        """Warns, unless something of this kind has been said.

        Args:
            kind: What is said once.
            message: What was found and what to do, one or two lines.
            step: Steps done.
        """
        if kind in self._said:
            return
        self._said.add(kind)
        with tqdm.external_write_mode():  # a bar would be written over
            _LOGGER.warning("step %d: %s", step, message)
        if self._path is not None:
            try:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(f"step {step}: {message}\n")
            except OSError as error:
                _LOGGER.warning("%s cannot be written (%s)", self._path, error)
