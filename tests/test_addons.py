"""Against tensorflow-addons: what it and this package both do. It ended in 2024; `make test-addons` has it.

Where the two differ, NumPy or SciPy computes the same a third time and says which is right.
"""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from kerasseg import augment, layers, losses, postprocess, training
from kerasseg._opencv import cv2

tfa = pytest.importorskip("tensorflow_addons", reason="tensorflow-addons is not installed: make test-addons")

OPENCV_IS_EXACT = int(cv2.__version__.split(".")[0]) >= 5
"""Whether this OpenCV interpolates at exact positions, and not at those rounded to 1/32 pixel."""


def picture(height, width, channels=3, seed=0):
    """Smooth structure with noise, float32 [H, W, C], 0-255."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.uniform(0, 255, (height, width, channels)), (2, 2, 0))
    return np.clip((image - 127) * 4 + 127 + rng.normal(0, 5, image.shape), 0, 255).astype(np.float32)


# --- unpooling --------------------------------------------------------------------------------------------------------


def unpooled_one_by_one(values, pooled_from):
    """Each value at the first maximum of its window of 2 x 2, in rows; windows are cut off at the edge."""
    result = np.zeros_like(pooled_from)
    for b, y, x, c in np.ndindex(values.shape):
        window = pooled_from[b, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2, c]
        dy, dx = np.unravel_index(window.argmax(), window.shape)
        result[b, 2 * y + dy, 2 * x + dx, c] = values[b, y, x, c]
    return result


def of_addons(values, pooled_from):
    argmax = tf.nn.max_pool_with_argmax(pooled_from, 2, 2, "SAME").argmax
    return tfa.layers.MaxUnpooling2D()(values, argmax).numpy()


@pytest.mark.parametrize("ties", [False, True])
def test_max_unpooling_of_even_sizes(ties):
    rng = np.random.default_rng(1)
    pooled_from = rng.normal(size=(3, 8, 10, 5)).astype(np.float32)
    if ties:
        pooled_from = np.maximum(np.round(pooled_from), 0)
    values = tf.constant(rng.normal(size=(3, 4, 5, 5)).astype(np.float32))
    ours = layers.MaxUnpool2D()([values, tf.constant(pooled_from)]).numpy()
    np.testing.assert_array_equal(ours, of_addons(values, pooled_from))
    np.testing.assert_array_equal(ours, unpooled_one_by_one(values.numpy(), pooled_from))
    _, indices = layers.MaxPoolWithIndices2D()(tf.constant(pooled_from))
    np.testing.assert_array_equal(layers.MaxUnpoolWithIndices2D()([values, indices, pooled_from]).numpy(), ours)


def test_max_unpooling_of_odd_sizes():
    """tensorflow-addons takes the pooled tensor to have been even (which it says), and puts values elsewhere."""
    rng = np.random.default_rng(2)
    pooled_from = rng.normal(size=(2, 7, 9, 3)).astype(np.float32)
    values = tf.constant(rng.normal(size=(2, 4, 5, 3)).astype(np.float32))
    ours = layers.MaxUnpool2D()([values, tf.constant(pooled_from)]).numpy()
    np.testing.assert_array_equal(ours, unpooled_one_by_one(values.numpy(), pooled_from))
    theirs = of_addons(values, pooled_from)
    assert theirs.shape == (2, 8, 10, 3)
    assert (theirs[:, :7, :9] != ours).any()


# --- warping and blurring ---------------------------------------------------------------------------------------------


def test_elastic_warping():
    """Beyond the edge tensorflow-addons repeats it; this package mirrors, as the U-Net paper does. SciPy does both."""
    image = picture(48, 65)
    grid = np.random.default_rng(3).normal(0, 6, (2, 3, 3)).astype(np.float32)
    field = augment.grid_displacement(grid, image.shape[:2]).numpy()
    pixels = np.stack(np.meshgrid(np.arange(48), np.arange(65), indexing="ij"), -1).astype(np.float32)
    positions = pixels + field
    inside = ((positions >= 0) & (positions <= np.array([47, 64]))).all(-1)
    assert 0.5 < inside.mean() < 0.99

    ours = augment.warp(tf.constant(image), tf.constant(positions)).numpy()
    theirs = tfa.image.dense_image_warp(image[np.newaxis], -field[np.newaxis])[0].numpy()
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.01)
    np.testing.assert_allclose(augment.warp_cv(image, positions), ours, atol=0.01 if OPENCV_IS_EXACT else 4)

    at = np.moveaxis(positions.astype(np.float64), -1, 0)
    for result, mode in ((ours, "mirror"), (theirs, "nearest")):
        expected = [ndimage.map_coordinates(image[..., c].astype(float), at, order=1, mode=mode) for c in range(3)]
        np.testing.assert_allclose(result, np.stack(expected, -1), atol=0.01)
    assert np.abs(ours - theirs)[~inside].max() > 1


@pytest.mark.parametrize("sigma", [0.8, 2.0, 3.3])
def test_gaussian_smoothing(sigma):
    image = picture(40, 53)
    side = 2 * int(4 * sigma + 0.5) + 1
    ours = augment.gaussian_blur(tf.constant(image), sigma).numpy()
    theirs = tfa.image.gaussian_filter2d(tf.constant(image), (side, side), sigma, padding="REFLECT").numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_allclose(augment.gaussian_blur_cv(image, sigma), theirs, atol=1e-3)
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror"), atol=1e-3)


def test_gaussian_smoothing_of_an_image_smaller_than_the_kernel():
    """tensorflow-addons cannot pad so far; this package mirrors again and again, as SciPy does."""
    image = picture(6, 9)
    with pytest.raises(tf.errors.InvalidArgumentError, match="paddings must be"):
        tfa.image.gaussian_filter2d(tf.constant(image), (25, 25), 3.0, padding="REFLECT")
    expected = ndimage.gaussian_filter(image, (3, 3, 0), mode="mirror")
    np.testing.assert_allclose(augment.gaussian_blur(tf.constant(image), 3.0).numpy(), expected, atol=1e-3)


# --- rotation and affine maps -----------------------------------------------------------------------------------------


def plan_of(matrix, size):
    """The plan that shows pixel o at `matrix` (o, 1), (y, x)."""
    whole = tf.constant([0, 0, *size])
    return augment.Plan(tf.constant(size), whole, whole, warp=augment.Warp(tf.constant(matrix, tf.float32)))


def projective(matrix):
    """The same for tensorflow-addons: x before y, row by row, and two zeros."""
    (a, b, c), (d, e, f) = matrix
    return [e, d, f, b, a, c, 0.0, 0.0]


ANGLE = np.radians(23.0)
SIZE = (44, 57)
CENTRE = (np.array(SIZE) - 1) / 2


def around_centre(linear):
    return np.column_stack([linear, CENTRE - linear @ CENTRE])


AFFINE = {
    "rotation": around_centre(np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])),
    "affine": around_centre(np.array([[0.8123, 0.3077], [-0.1519, 1.2971]])) + [[0, 0, 2.317], [0, 0, -4.131]],
}


@pytest.mark.parametrize("kind", AFFINE)
@pytest.mark.parametrize("border", ["fill", "mirror"])
def test_rotation_and_affine_map(kind, border):
    """Inside and with a fill the two agree, in the blend at the edge too. Their "reflect" is another mirror.

    It repeats the edge pixel (SciPy's "reflect"); this package's "mirror" does not (SciPy's "mirror").
    """
    image, matrix = picture(*SIZE), AFFINE[kind]
    mask = np.random.default_rng(4).integers(0, 20, SIZE).astype(np.uint8)
    sample = {"image": tf.constant(image), "mask": tf.constant(mask)}
    augmentation = augment.Augmentation(rotation=30, border=border, fill=17.0)
    ours = augment.render(sample, plan_of(matrix, SIZE), augmentation)
    transforms = projective(matrix)
    mode = {"fill": "constant", "mirror": "reflect"}[border]
    options = {"fill_mode": mode, "fill_value": 17.0}
    theirs = tfa.image.transform(image, transforms, "bilinear", **options).numpy()
    masks = tfa.image.transform(mask, transforms, "nearest", fill_mode=mode, fill_value=255.0).numpy()

    pixels = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    positions = pixels @ matrix[:, :2].T + matrix[:, 2]
    inside = ((positions >= 0) & (positions <= np.array(SIZE) - 1)).all(-1)
    same = np.ones_like(inside) if border == "fill" else inside
    np.testing.assert_allclose(ours["image"].numpy()[same], theirs[same], atol=0.02)
    # Exactly between two pixels either may be the nearest; only there may they differ.
    between = (np.abs(positions % 1 - 0.5) < 1e-4).any(-1)
    clear = same & ~between
    np.testing.assert_array_equal(ours["mask"].numpy()[clear], masks[clear])
    assert between.mean() < 0.01
    assert inside.mean() < 0.95
    if border == "mirror":
        at = np.moveaxis(positions, -1, 0)
        for result, name in ((ours["image"].numpy(), "mirror"), (theirs, "reflect")):
            expected = [ndimage.map_coordinates(image[..., c].astype(float), at, order=1, mode=name) for c in range(3)]
            np.testing.assert_allclose(result, np.stack(expected, -1), atol=0.05)


def test_random_rotation_is_that_by_its_angle():
    image = tf.constant(picture(*SIZE))
    augmentation = augment.Augmentation(rotation=30, border="fill", fill=0.0)
    for seed in range(3):
        plan = augment.draw_plan(augmentation, tf.constant([1, seed]), tf.constant(SIZE), None, 3)
        matrix = plan.warp.matrix.numpy()
        angle = np.arctan2(matrix[0, 1], matrix[0, 0])
        assert 0.01 < abs(angle) <= np.radians(30)
        ours = augment.render({"image": image}, plan, augmentation)["image"].numpy()
        np.testing.assert_allclose(ours, tfa.image.rotate(image, angle, "bilinear").numpy(), atol=0.05)


# --- distances --------------------------------------------------------------------------------------------------------


def distances(is_outside):
    """Distance of each pixel to the nearest False, by tensorflow-addons; float32 [H, W]."""
    image = is_outside.astype(np.uint8)[np.newaxis, ..., np.newaxis]
    return tfa.image.euclidean_dist_transform(image).numpy()[0, ..., 0]


@pytest.fixture(scope="module")
def instances():
    """Round cells, some of them close together, int32 [H, W]."""
    rng = np.random.default_rng(5)
    y, x = np.ogrid[:70, :83]
    cells = np.zeros((70, 83), np.int32)
    for i in range(1, 16):
        cy, cx, radius = rng.uniform(0, 70), rng.uniform(0, 83), rng.uniform(6, 11)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        free = ~ndimage.binary_dilation((cells > 0) & (cells != i), np.ones((3, 3)))
        cells[disc & free] = i
    return cells


def test_distance_transform(instances):
    outside = instances == 0
    theirs = distances(outside)
    np.testing.assert_allclose(theirs, ndimage.distance_transform_edt(outside), atol=1e-4)
    precise = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    np.testing.assert_allclose(precise, theirs, atol=1e-4)


def test_border_weights_are_those_of_its_distances(instances):
    """The formula of the U-Net paper over the two smallest of the distances to each cell, by tensorflow-addons."""
    each = np.sort([distances(instances != i) for i in np.unique(instances) if i], axis=0).astype(np.float64)
    cell = instances > 0
    balance = np.where(cell, cell.size / (2 * cell.sum()), cell.size / (2 * (~cell).sum()))
    expected = balance + 10 * np.exp(-((each[0] + each[1]) ** 2) / (2 * 5**2))
    np.testing.assert_allclose(augment.border_weights(instances), expected, atol=1e-4)
    assert expected.max() > 5


def test_objects_parted_at_their_waists_are_those_of_its_distances(instances, monkeypatch):
    mask = ndimage.binary_dilation(instances > 0, iterations=1).astype(np.uint8)
    ours = postprocess.split_by_distance(mask)
    calls = []
    monkeypatch.setattr(ndimage, "distance_transform_edt", lambda x: calls.append(x) or distances(x).astype(float))
    np.testing.assert_array_equal(postprocess.split_by_distance(mask), ours)
    assert len(calls) == 1
    assert ours.max() > ndimage.label(mask)[1]


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (3.5, 0.9)])
def test_focal_loss(gamma, alpha):
    """One logit to a pixel, value and gradient; float64 between them."""
    rng = np.random.default_rng(6)
    logits = tf.constant(rng.normal(0, 3, (2, 6, 7, 1)).astype(np.float32))
    mask = rng.integers(0, 2, (2, 6, 7)).astype(np.int32)
    ours = losses.Focal(gamma=gamma, alpha=alpha)
    theirs = tfa.losses.SigmoidFocalCrossEntropy(from_logits=True, alpha=alpha, gamma=gamma, reduction="none")
    results = []
    for loss in (lambda x: ours(mask, x), lambda x: tf.reduce_mean(theirs(mask[..., None].astype(np.float32), x))):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(logits)
        results.append((value.numpy(), tape.gradient(value, logits).numpy()))
    x = np.where(mask == 1, 1, -1) * logits.numpy()[..., 0].astype(np.float64)
    weight = np.where(mask == 1, alpha, 1 - alpha)
    expected = (weight * (1 / (1 + np.exp(x))) ** gamma * np.log1p(np.exp(-x))).mean()
    for value, gradient in results:
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, results[0][1], atol=1e-7)


# --- optimisers -------------------------------------------------------------------------------------------------------


RATE, DECAY, STEPS = 0.05, 0.02, 12


def trained(optimizer, steps=STEPS):
    """Returns the weights after each step on fixed gradients, float64 [steps, 4, 3]."""
    rng = np.random.default_rng(7)
    weight = tf.Variable(rng.normal(size=(4, 3)).astype(np.float32), name="kernel")
    weights = []
    for _ in range(steps):
        optimizer.apply_gradients([(tf.constant(rng.normal(size=(4, 3)).astype(np.float32)), weight)])
        weights.append(weight.numpy().astype(np.float64))
    return np.stack(weights)


def written_out(step):
    """The same in NumPy: `step(weight, gradient, n)` returns the next weight."""
    rng = np.random.default_rng(7)
    weight, weights = rng.normal(size=(4, 3)).astype(np.float32).astype(np.float64), []
    for n in range(1, STEPS + 1):
        weight = step(weight, rng.normal(size=(4, 3)).astype(np.float32).astype(np.float64), n)
        weights.append(weight)
    return np.stack(weights)


@pytest.mark.parametrize("nesterov", [False, True])
def test_decoupled_weight_decay_with_momentum(nesterov):
    """tensorflow-addons takes weight_decay · w off, whatever the rate; this package (as PyTorch) rate · decay · w."""
    options = {"momentum": 0.9, "nesterov": nesterov}
    ours = trained(training.SGD(RATE, weight_decay=DECAY, decay="decoupled", **options))
    theirs = trained(tfa.optimizers.SGDW(weight_decay=RATE * DECAY, learning_rate=RATE, **options))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    velocity = np.zeros((4, 3))

    def step(weight, gradient, n):
        nonlocal velocity
        velocity = 0.9 * velocity - RATE * gradient
        move = 0.9 * velocity - RATE * gradient if nesterov else velocity
        return weight * (1 - RATE * DECAY) + move

    np.testing.assert_allclose(ours, written_out(step), atol=1e-6)


def test_decoupled_weight_decay_of_adam():
    ours = trained(training.Adam(RATE, weight_decay=DECAY, decay="decoupled"))
    theirs = trained(tfa.optimizers.AdamW(weight_decay=RATE * DECAY, learning_rate=RATE, epsilon=1e-7))
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    mean, square = np.zeros((4, 3)), np.zeros((4, 3))

    def step(weight, gradient, n):
        nonlocal mean, square
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        move = RATE * np.sqrt(1 - 0.999**n) / (1 - 0.9**n) * mean / (np.sqrt(square) + 1e-7)
        return weight * (1 - RATE * DECAY) - move

    np.testing.assert_allclose(ours, written_out(step), atol=2e-6)


def test_moving_average_of_the_weights():
    """The share of the old after n updates is min(0.8, (n - 1) / (n + 8)); what was before the first has none."""
    rng = np.random.default_rng(8)
    start = rng.normal(size=(5,)).astype(np.float32)
    gradients = rng.normal(size=(40, 5)).astype(np.float32)
    averages = []
    for optimizer in (
        training.SGD(RATE, ema=0.8),
        tfa.optimizers.MovingAverage(
            tf.keras.optimizers.legacy.SGD(RATE), average_decay=0.8, start_step=1, dynamic_decay=True
        ),
    ):
        weight, seen = tf.Variable(start, name="kernel"), []
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(gradient), weight)])
            ours = isinstance(optimizer, training.SGD)
            seen.append((optimizer._averages[0] if ours else optimizer.get_slot(weight, "average")).numpy())
        averages.append(np.stack(seen))
    weight, average, expected = start.astype(float), 0.0, []
    for n, gradient in enumerate(gradients, 1):
        weight = weight - RATE * gradient
        share = min(0.8, (n - 1) / (n + 8))
        average = share * average + (1 - share) * weight
        expected.append(average)
    for seen in averages:
        np.testing.assert_allclose(seen, expected, atol=1e-6)
