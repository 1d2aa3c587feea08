"""What a training shows of itself: TensorBoard, pictures and curves."""

import contextlib
import io
import math
import time

import numpy as np
import tensorflow as tf
from tensorboard.plugins.image import metadata
from tensorflow import keras

from kerasseg.postprocess import confusion_picture
from kerasseg.spec import IGNORE_LABEL, voc_palette
from kerasseg.training._curves import plot_curves
from kerasseg.training._pictures import encoded, sheet, write_bytes
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._state import TrainingState
from kerasseg.training._validation import Validation
from kerasseg.training._warnings import Warnings

_TIMES_DRAWING = 20


class Report(keras.callbacks.Callback):
    """After each validation: scalars and pictures for TensorBoard, and the same pictures in the run folder.

    TensorBoard's steps are the training's, in a resumed run too. Its runs "train" and "validation" have the scalars
    loss and mean_iou in common; the pictures are with the second.

    Nothing here may cost the run: what cannot be written is warned of, once, and the training goes on. Where
    validations follow so fast that drawing would take more than a 20th of the time, some go undrawn; never the last.

    To come after what adds the rows to the state.
    """

    def __init__(
        self,
        run: RunFolder,
        state: TrainingState,
        validation: Validation | None,
        warnings: Warnings,
        ignore_label: int | None = IGNORE_LABEL,
    ):
        super().__init__()
        self._run, self._state, self._validation, self._warnings = run, state, validation, warnings
        self._ignore_label = ignore_label
        self._writers = {}
        self._drawing_s, self._drawn_at, self._drawn = 0.0, -math.inf, None
        self._pictured = None

    def on_epoch_end(self, epoch, logs=None):
        row = self._state.history[-1]
        with self._forgiving("TensorBoard's files"):
            self._write_scalars(row)
        start = time.perf_counter()
        if start - self._drawn_at >= _TIMES_DRAWING * self._drawing_s:
            self._draw_all(row)
            first, self._drawn_at = self._drawn_at == -math.inf, time.perf_counter()
            self._drawing_s = 0.0 if first else self._drawn_at - start  # the first imports Matplotlib, too
        elif self._state.best is row:
            self._draw_samples(row)
        with self._forgiving("TensorBoard's files"):
            for writer in self._writers.values():
                writer.flush()

    def on_train_end(self, logs=None):
        row = self._state.history[-1]
        if self._drawn is not row:
            self._draw_all(row)
        for writer in self._writers.values():
            with self._forgiving("TensorBoard's files"):
                writer.close()

    def _draw_all(self, row):
        self._drawn = row
        palette = None if self._run.dataset is None else self._run.dataset.palette
        with self._forgiving(self._run.curves.name):
            file = io.BytesIO()
            plot_curves(self._state, file, palette)
            write_bytes(self._run.curves, file.getvalue())
        if self._validation is None:
            return
        with self._forgiving(self._run.confusion_matrix.name):
            picture = confusion_picture(self._validation.confusion_matrix, self._validation.class_names)
            self._write_picture("confusion_matrix", picture, row["step"], self._run.confusion_matrix)
        self._draw_samples(row)

    def _draw_samples(self, row):
        if not self._validation.samples or self._pictured is row:
            return
        self._pictured = row
        with self._forgiving(f"{self._run.pictures.name}/"):
            names, spec = self._validation.class_names, self._run.dataset
            same = spec is not None and spec.num_classes == len(names)
            palette = np.array(spec.palette, np.uint8) if same else voc_palette(len(names))
            picture = sheet(self._validation.samples, names, palette, self._ignore_label, row["step"])
            places = [self._run.pictures / "last.png"]
            if self._state.best is row:
                places.append(self._run.pictures / "best.png")
            self._write_picture("images", picture, row["step"], *places)

    def _write_scalars(self, row):
        for key, value in row.items():
            if key != "step" and value is not None:
                run = "validation" if key.startswith("val_") else "train"
                with self._writer(run).as_default(row["step"]):
                    tf.summary.scalar(key.removeprefix("val_"), value)

    def _write_picture(self, name, picture, step, *paths):
        """Writes a picture to the paths, and for TensorBoard: as JPEG, for its files keep the pictures of all steps."""
        content = encoded(picture, "PNG")
        for path in paths:
            write_bytes(path, content)
        size = [str(side) for side in picture.shape[1::-1]]
        described = metadata.create_summary_metadata(display_name=name, description="")
        with self._writer("validation").as_default(step):
            tf.summary.write(name, tf.constant([*size, encoded(picture, "JPEG")]), metadata=described)

    def _writer(self, run):
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self._run.tensorboard / run))
        return self._writers[run]

    @contextlib.contextmanager
    def _forgiving(self, what):
        try:
            yield
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            self._warnings.say(
                f"cannot write {what}",
                f"{what} cannot be brought up to date ({type(error).__name__}: {text}); the training goes on without",
                self._state.step,
            )
