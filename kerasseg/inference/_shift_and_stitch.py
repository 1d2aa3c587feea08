"""Dense output of networks with a stride, from shifted images."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.inference._network import network


def shift_and_stitch(model: keras.Model, image: np.ndarray, stride: int) -> np.ndarray:
    """Computes the scores at every pixel with a network whose scores lie `stride` pixels apart.

        coarse = keras.Model(fcn.input, fcn.get_layer("score_fr").output)
        scores = shift_and_stitch(coarse, image, 32)

    The image is shifted by 0 to stride - 1 pixels in both directions, stride² times, and the outputs are interlaced.
    The result is that of the same network with every stride made 1 and what follows it dilated (à trous): exactly so
    for layers without padding; with padding, but for the border, where each shifted image has a border of its own.

    Score [i, j] is the one whose receptive field begins i pixels below and j pixels right of that of score [0, 0]. One
    side of the result is the sum of the coarse sides over all shifts: without padding the image's, less the receptive
    field, plus 1; with Keras' "same" padding the image's.

    Args:
        model: Images [B, H, W, C], any size -> scores [B, h, w, K].
        image: Numeric [H, W, C], 0-255.
        stride: Pixels between neighbouring scores, such as 32 for FCN's.

    Returns:
        Scores float32 [H', W', K].

    Raises:
        ValueError: The image is none, or the model's scores are not `stride` pixels apart.
    Reference: Long et al. 2015, arXiv:1411.4038, section 3.2. The authors describe it and do without.
    Differs: They pad the image above and left to shift it; here that many rows and columns are cut off, so that no
        score depends on padding, and the interlacing is in the order of the shifts.
    """
    image = np.asarray(image, np.float32)
    channels = model.input_shape[-1]
    if image.ndim != 3 or not image.size or image.shape[2] != channels:
        raise ValueError(f"expected an image [H, W, {channels}] that is not empty, got the shape {image.shape}")
    if isinstance(stride, bool) or not isinstance(stride, (int, np.integer)) or not 1 <= stride <= min(image.shape[:2]):
        raise ValueError(
            f"stride must be a whole number from 1 to the image's smaller side, {min(image.shape[:2])}, got {stride!r}"
        )
    few, many = (model.compute_output_shape((1, n, n, channels))[1] for n in (512, 512 + 16 * stride))
    if many - few != 16:
        raise ValueError(
            f"the scores of {model.name!r} are not {stride} pixels apart: {16 * stride} pixels more make {many - few} "
            "scores more, not 16"
        )
    least = [side - stride + 1 for side in image.shape[:2]]
    if not _gives_scores(model, least):
        raise ValueError(
            f"an image of {image.shape[0]} x {image.shape[1]} is too small: what is left of it after the last shift, "
            f"{least[0]} x {least[1]}, has no score; pad it first"
        )
    forward = network(model).forward
    shifted = {
        (y, x): forward(tf.constant(image[None, y:, x:])).numpy()[0] for y in range(stride) for x in range(stride)
    }
    height = sum(shifted[y, 0].shape[0] for y in range(stride))
    width = sum(shifted[0, x].shape[1] for x in range(stride))
    stitched = np.zeros((height, width, model.output_shape[-1]), np.float32)
    for (y, x), scores in shifted.items():
        stitched[y::stride, x::stride] = scores
    return stitched


def _gives_scores(model, size):
    try:
        return min(model.compute_output_shape((1, *size, model.input_shape[-1]))[1:3]) > 0
    except ValueError:  # Keras 3 says so of layers without padding.
        return False
