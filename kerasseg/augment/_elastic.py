"""Elastic deformation: fields of displacements, added to the positions at which `warp` reads.

In two forms with the same maths: TensorFlow graph ops, and NumPy and OpenCV on arrays (`..._cv`). A field is float32
[H, W, 2], (dy, dx) in pixels.
"""

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2
from kerasseg.augment._blur import gaussian_blur_cv, gaussian_kernel, mirrored


def grid_displacement(grid: tf.Tensor, size) -> tf.Tensor:
    """Interpolates a coarse grid of displacement vectors over an image, bicubically.

    The grid's points are spread evenly, its corners at the centres of the image's corner pixels. Between them runs the
    natural cubic spline: it goes through the points, is smooth to the second derivative and bends least of all curves
    through them. (Catmull-Rom has kinks in its slope and needs points beyond the border; the not-a-knot spline is a
    single parabola where there are three points.)

    Args:
        grid: float32 [2, gy, gx], static shape: dy and dx at each point, pixels.
        size: (H, W), integers or tensors.

    Returns:
        float32 [H, W, 2].

    Source: Ronneberger et al. 2015, arXiv:1505.04597, §3.1: vectors on a 3 x 3 grid, normal with a standard deviation
    of 10 pixels, bicubic interpolation. The paper names no kind of spline and no place of the points.
    """
    grid = tf.convert_to_tensor(grid, tf.float32)
    rows, columns = (_basis(size[axis], grid.shape[axis + 1]) for axis in range(2))
    across = tf.tensordot(grid, columns, [[2], [1]])  # [2, gy, W]
    flat = tf.reshape(tf.transpose(across, [1, 2, 0]), [grid.shape[1], -1])
    return tf.reshape(tf.matmul(rows, flat), [size[0], size[1], 2])


def grid_displacement_cv(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`grid_displacement` with NumPy and OpenCV."""
    grid = np.asarray(grid, np.float32)
    rows, columns = (_basis_cv(size[axis], grid.shape[axis + 1]) for axis in range(2))
    flat = (grid @ columns.T).transpose(1, 2, 0).reshape(grid.shape[1], -1)
    # Not NumPy's product: its threads wait for each other, and where all cores are busy that takes 30 times as long.
    return cv2.gemm(rows, flat, 1, None, 0).reshape(*size, 2)


def simard_displacement(seed, size, alpha: float, sigma: float) -> tf.Tensor:
    """Returns a field of noise, uniform in [-1, 1), independent for each pixel and axis, blurred and multiplied.

    Args:
        seed: Integers [2].
        size: (H, W), integers or tensors.
        alpha: Factor, pixels.
        sigma: Of the Gaussian, pixels, above 0; its kernel as in `gaussian_blur`.

    Returns:
        float32 [H, W, 2], less than alpha in size; its standard deviation is about alpha / (sqrt(12 pi) sigma).

    Source: Simard et al. 2003, ICDAR, "Best practices for convolutional neural networks applied to visual document
    analysis", §2 (alpha 34 and sigma 4 for digits of 29 x 29).
    """
    noise = tf.random.stateless_uniform([2, size[0], size[1]], seed, -1.0, 1.0)
    # Products with a matrix for each axis cost the same for any sigma, and less than convolutions from about 5 on.
    rows, columns = (_blur_matrix(size[axis], tf.cast(sigma, tf.float32)) for axis in range(2))
    blurred = tf.matmul(rows[tf.newaxis], tf.matmul(noise, columns[tf.newaxis], transpose_b=True))
    return alpha * tf.transpose(blurred, [1, 2, 0])


def simard_displacement_cv(seed: int, size: tuple[int, int], alpha: float, sigma: float) -> np.ndarray:
    """`simard_displacement` with NumPy and OpenCV, of other noise: Philox, whose seed is one integer."""
    noise = np.random.Generator(np.random.Philox(seed)).random((*size, 2), np.float32)
    return np.float32(alpha) * gaussian_blur_cv(2 * noise - 1, sigma)


def _basis(length, points):
    """Returns float32 [length, points]: what the value at each point of an axis contributes to each pixel."""
    step = (points - 1) / tf.maximum(length - 1, 1)
    pixels = tf.range(length, dtype=tf.float32)[:, tf.newaxis] * tf.cast(step, tf.float32)
    return _natural_spline(tf.maximum(1 - tf.abs(pixels - np.arange(points, dtype=np.float32)), 0))


def _basis_cv(length, points):
    step = np.float32((points - 1) / max(length - 1, 1))
    pixels = np.arange(length, dtype=np.float32)[:, np.newaxis] * step
    return _natural_spline(np.maximum(1 - np.abs(pixels - np.arange(points, dtype=np.float32)), 0))


def _natural_spline(hat):
    """Returns the weights of the natural cubic spline from those of linear interpolation, float32 [length, points].

    Between points k and k + 1, of linear weights a and b, the spline is a y_k + b y_(k+1) + ((a³ - a) z_k +
    (b³ - b) z_(k+1)) / 6. Its second derivatives z follow from the values y: z_(k-1) + 4 z_k + z_(k+1) =
    6 (y_(k-1) - 2 y_k + y_(k+1)), and 0 at the ends.
    """
    inner = hat.shape[1] - 2
    curvature = np.zeros((hat.shape[1], hat.shape[1]), np.float32)
    if inner > 0:
        left = 4 * np.eye(inner) + np.eye(inner, k=1) + np.eye(inner, k=-1)
        right = np.eye(inner, inner + 2) - 2 * np.eye(inner, inner + 2, k=1) + np.eye(inner, inner + 2, k=2)
        curvature[1:-1] = np.linalg.solve(left, 6 * right)
    return hat + ((hat**3 - hat) / 6) @ curvature


def _blur_matrix(length, sigma):
    """Returns float32 [length, length], which blurs an axis that is mirrored at its ends."""
    kernel, reach = gaussian_kernel(sigma)
    target = tf.range(length)[:, tf.newaxis]
    source = mirrored(target + tf.range(-reach, reach + 1), length)
    places = tf.stack([tf.broadcast_to(target, tf.shape(source)), source], axis=-1)
    return tf.scatter_nd(places, tf.broadcast_to(kernel, tf.shape(source)), [length, length])
