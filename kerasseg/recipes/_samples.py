"""What a stage is trained on, and scored by."""

import os

import tensorflow as tf

from kerasseg import pipeline
from kerasseg.recipes._stage import Stage
from kerasseg.spec import DatasetSpec


def batches(
    stage: Stage,
    data_dir: str | os.PathLike,
    split: str = "train",
    seed: int = 1,
    first: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns the training batches of a stage, without end, from the batch numbered `first` on.

    With an `input_context` they are one worker's part of them, see `kerasseg.pipeline.train_batches`.
    """
    spec = DatasetSpec.load(data_dir)
    preset = getattr(pipeline.presets, stage.preset, None) if isinstance(stage.preset, str) else stage.preset
    data = pipeline.train_batches(
        data_dir,
        split,
        stage.batch_size,
        stage.crop_size,
        stage.preset,
        seed,
        weights=stage.pixel_weights,
        instances=stage.instances,
        # Resampled pixels of 8 bits are rounded, or, where a function of TensorFlow ops makes them, left as they are.
        compact=spec.bit_depth == 8 and not callable(preset),
        first_step=first,
        input_context=input_context,
    )
    return data if stage.targets is None else data.map(stage.targets, num_parallel_calls=tf.data.AUTOTUNE)


def scored_images(stage: Stage, data_dir: str | os.PathLike, split: str) -> tf.data.Dataset:
    """Returns whole images with their masks, and with what the model learns instead, where that is something else."""
    optional = {"instances": True} if stage.instances else {}
    data = pipeline.eval_images(data_dir, split, **optional)

    def with_target(image, mask, *instances):
        weight = [tf.ones_like(mask, tf.float32)] if stage.pixel_weights else []
        return image, mask, stage.targets(image, mask, *weight, *instances)[1]

    return data if stage.targets is None else data.map(with_target)
