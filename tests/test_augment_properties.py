"""What holds for every augmentation, whatever is drawn: hypothesis looks for a case in which it does not.

derandomize=True: the examples are the same in every run, so that a run that fails fails again.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasseg import augment
from kerasseg._opencv import cv2
from kerasseg.augment import Augmentation, ColourRange, Cutout, GreyRange, GridElastic
from kerasseg.spec import IGNORE_LABEL

EXACT = int(cv2.__version__.split(".")[0]) >= 5
"""Whether this OpenCV interpolates at exact positions, and not at those rounded to 1/32 pixel."""

few = settings(max_examples=12, deadline=None, derandomize=True)

sides = st.integers(1, 40)
seeds = st.integers(0, 2**31 - 1)
borders = st.sampled_from(augment.BORDERS)


def sample_of(image, mask):
    return {"image": tf.constant(image), "mask": tf.constant(mask)}


def positions(size, seed):
    """Where an elastic deformation of a rotated, scaled and shifted image reads; float32 [H, W, 2]."""
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(size) - 1) / 2
    here = np.stack(np.mgrid[: size[0], : size[1]], -1) - centre
    field = augment.grid_displacement_cv(rng.normal(0, min(size) / 20, (2, 3, 3)), size)
    return (here @ turn.T + centre + rng.uniform(-3, 3, 2) + field).astype(np.float32)


def places(seed):
    """An augmentation that changes places and no values, any of its steps on or off."""
    rng = np.random.default_rng(seed)
    resized = rng.integers(2)  # or warped, as it is by any of the steps that take `some`

    def some(value):
        return 0.0 if resized or rng.integers(2) else value

    low = rng.uniform(0.4, 1.2)
    return Augmentation(
        scale=(low, low + rng.uniform(0, 1)),
        scale_step=0.25 * rng.integers(2),
        crop=str(rng.choice(["random", "centre"])),
        flip_left_right=bool(rng.integers(2)),
        flip_up_down=bool(rng.integers(2)),
        quarter_turns=bool(rng.integers(2)),
        rotation=some(180.0),
        shift=some(6.0),
        elastic=some(GridElastic(rng.uniform(0, 2), int(rng.integers(2, 6)))) or None,
        border="mirror" if some(True) else "fill",
        fill=[0.0, 128.0, "mean"][rng.integers(3)],
    )


def rendered(augmentation, image, mask, seed, crop_size=None):
    """Returns image and mask as both executors have them, of the same plan."""
    plan = augment.draw_plan(augmentation, tf.constant([seed, 3]), tf.constant(mask.shape), crop_size, image.shape[-1])
    top, left, height, width = plan.window.numpy().tolist()
    window = image[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    graph = _both(augment.render(sample_of(*window), plan, augmentation))
    arrays = tf.nest.map_structure(lambda part: None if part is None else part.numpy(), plan)
    into = {"image": np.empty(graph[0].shape, image.dtype), "mask": np.empty(graph[1].shape, mask.dtype)}
    augment.render_cv(dict(zip(into, window, strict=True)), arrays, augmentation, into)
    return graph, tuple(into.values())


def moves(size, seed):
    """All that moves pixels: name -> a function of an image [H, W, C] and a mask [H, W] that returns both, arrays."""
    draw, read = tf.constant([seed, 1]), positions(size, seed)
    on_samples = {
        "rescale": lambda s: augment.random_rescale(s, draw),
        "rescale legacy": lambda s: augment.random_rescale(s, draw, sampling="legacy"),
        "crop": lambda s: augment.random_crop(s, draw, (21, 34)),
        "centre crop": lambda s: augment.centre_crop(s, (25, 12)),
        "flip": lambda s: augment.random_flip(s, draw),
        "rotate90": lambda s: augment.random_rotate90(s, draw),
    }
    found = {name: (lambda image, mask, f=f: _both(f(sample_of(image, mask)))) for name, f in on_samples.items()}
    for border in augment.BORDERS:
        found[f"warp {border}"] = lambda image, mask, b=border: (
            augment.warp(image, read, False, b).numpy(),
            augment.warp(mask[..., None], read, True, b, IGNORE_LABEL).numpy()[..., 0],
        )
        found[f"warp_cv {border}"] = lambda image, mask, b=border: (
            augment.warp_cv(image, read, False, b),
            augment.warp_cv(mask[..., None], read, True, b, IGNORE_LABEL)[..., 0],
        )
    augmentation, crop_size = places(seed), (None, (24, 32))[seed % 2]
    described = "mirror" if augmentation.border == "mirror" else "fill"
    for i, engine in enumerate(("render", "render_cv")):
        found[f"{engine} {described}"] = lambda image, mask, i=i: rendered(augmentation, image, mask, seed, crop_size)[
            i
        ]
    return found


def _both(sample):
    return sample["image"].numpy(), sample["mask"].numpy()


def noise_image(size, seed, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)


def labels(size, seed):
    """Blocks of 0 to 20 and some 255."""
    blocks = np.random.default_rng(seed).choice([*range(21), IGNORE_LABEL], (size[0] // 5 + 1, size[1] // 5 + 1))
    return np.kron(blocks, np.ones((5, 5), int))[: size[0], : size[1]].astype(np.uint8)


@few
@given(sides, sides, seeds)
def test_relabelling_before_is_relabelling_after(height, width, seed):
    size = height, width
    image, mask = noise_image(size, seed), labels(size, seed)
    table = np.append(np.random.default_rng(seed).permutation(IGNORE_LABEL), IGNORE_LABEL).astype(np.uint8)
    for name, move in moves(size, seed).items():
        moved_image, moved_mask = move(image, mask)
        other_image, other_mask = move(image, table[mask])
        np.testing.assert_array_equal(other_mask, table[moved_mask], err_msg=name)
        np.testing.assert_array_equal(other_image, moved_image, err_msg=name)


@few
@given(sides, sides, seeds)
def test_no_label_appears_that_was_not_there(height, width, seed):
    size = height, width
    image, mask = noise_image(size, seed), np.where(labels(size, seed) % 2, 200, 3).astype(np.uint8)
    for name, move in moves(size, seed).items():
        allowed = set(mask.ravel().tolist()) | (set() if "mirror" in name else {IGNORE_LABEL})
        assert set(move(image, mask)[1].ravel().tolist()) <= allowed, name


@few
@given(sides, sides, st.integers(1, 7), st.sampled_from([np.uint8, np.float32]), borders)
def test_nothing_drawn_leaves_every_pixel_untouched(height, width, channels, dtype, border):
    size = height, width
    image, mask = noise_image(size, width, channels).astype(dtype), labels(size, height)
    here = np.stack(np.mgrid[:height, :width], -1).astype(np.float32)
    here += augment.grid_displacement_cv(np.zeros((2, 3, 3)), size)
    sample = sample_of(image, mask)
    for moved in (
        _both(augment.rescale(sample, 1.0)),
        _both(augment.crop_or_pad(sample, size, 0, 0)),
        _both(augment.flip(sample)),
        _both(augment.rotate90(sample, 0)),
        (augment.warp(image, here, False, border), augment.warp(mask[..., None], here, True, border)[..., 0]),
        (augment.warp_cv(image, here, False, border), augment.warp_cv(mask[..., None], here, True, border)[..., 0]),
    ):
        np.testing.assert_array_equal(moved[0], image)
        np.testing.assert_array_equal(moved[1], mask)
    for augmentation in (Augmentation(border=border), Augmentation(crop="centre", border=border, colour=None)):
        for moved in rendered(augmentation, image, mask, seed=height, crop_size=size):
            np.testing.assert_array_equal(moved[0], image)
            np.testing.assert_array_equal(moved[1], mask)
    no_boxes = np.zeros((0, 4), np.int32)
    for untouched in (
        augment.vary_grey(image),
        augment.gaussian_blur(image, 0.0),
        augment.gaussian_blur_cv(image, 0.0),
        augment.gaussian_noise(image, 0.0, [1, 2]),
        augment.gaussian_noise_cv(image, 0.0, 1),
        augment.cutout(image, no_boxes),
        augment.cutout_cv(image, no_boxes),
        augment.window_values(image, 0, 255),
        augment.window_values_cv(image, 0, 255),
    ):
        np.testing.assert_array_equal(untouched, image)
    if channels == 3:
        identity = augment.colour_map(0.0, 1.0, 0.0, 1.0)
        np.testing.assert_array_equal(augment.apply_colour_map(image, identity), image)
        np.testing.assert_array_equal(augment.apply_colour_map_cv(image, *(p.numpy() for p in identity)), image)


@few
@given(st.integers(24, 48), st.integers(24, 48), seeds)
def test_an_image_that_is_its_mask_stays_so(height, width, seed):
    """The image's level tells on which side of the border a pixel lies; `slope` is its steepest rise a pixel."""
    size = height, width
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    a, b = rng.uniform(4, 10, 2)
    level = 128 + 20 * np.sin(rows / a + rng.uniform(0, 6)) + 20 * np.cos(columns / b + rng.uniform(0, 6))
    slope, bend = 20 / a + 20 / b, 20 / a**2 + 20 / b**2
    image, mask = np.repeat(level[..., None], 3, -1).astype(np.float32), (level > 128).astype(np.uint8)
    for name, move in moves(size, seed).items():
        moved_image, moved_mask = move(image, mask)
        known = moved_mask != IGNORE_LABEL
        # What blends with the fill is less than a pixel from what is filled, perhaps beyond the edge of the result.
        known &= ~_beside(~known)
        # The nearest pixel lies at most half a pixel away on each axis, TensorFlow 1's at most one; between pixels, a
        # straight line differs from a curve by an eighth of its second derivative.
        reach = 1 if "legacy" in name else 0.5
        clear = known & (np.abs(moved_image[..., 0] - 128) > reach * slope + bend / 8)
        np.testing.assert_array_equal(moved_image[..., 0][clear] > 128, moved_mask[clear], err_msg=name)
        assert clear.sum() > 0.2 * known.sum() > 0, name


def _beside(places):
    """Marks the pixels of [H, W] whose neighbour, diagonal ones too, is marked or lies beyond the edge."""
    padded = np.pad(places, 1, constant_values=True)
    height, width = places.shape
    return np.any([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


@few
@given(sides, sides, st.integers(1, 7), seeds, borders)
def test_both_forms_give_the_same_picture(height, width, channels, seed, border):
    size = height, width
    image, mask = noise_image(size, seed, channels), labels(size, seed)
    read, rng = positions(size, seed), np.random.default_rng(seed)
    fill = rng.integers(0, 256, channels)
    sigma, low = rng.uniform(0, 3), rng.uniform(-50, 100)
    boxes = rng.integers(-10, 40, (3, 4))
    warped = augment.warp_cv(image, read, False, border, fill)
    np.testing.assert_allclose(warped, augment.warp(image, read, False, border, fill), atol=0.51 if EXACT else 9)
    pairs = [
        (augment.gaussian_blur(image, sigma), augment.gaussian_blur_cv(image, sigma)),
        (augment.window_values(image, low, low + 99), augment.window_values_cv(image, low, low + 99)),
    ]
    if channels == 3:
        drawn = rng.uniform([-0.13, 0.5, -0.2, 0.5], [0.13, 1.5, 0.2, 1.5]).astype(np.float32)
        colour_map = augment.colour_map(*drawn)
        array = augment.apply_colour_map_cv(image, *(part.numpy() for part in colour_map))
        pairs.append((augment.apply_colour_map(image, colour_map), array))
    for graph, array in pairs:
        assert array.shape == graph.shape
        np.testing.assert_allclose(array.astype(float), graph, atol=1.01)
    np.testing.assert_array_equal(augment.cutout(image, boxes, fill), augment.cutout_cv(image, boxes, fill))
    graph = augment.warp(mask[..., None], read, True, border, IGNORE_LABEL)
    np.testing.assert_array_equal(augment.warp_cv(mask[..., None], read, True, border, IGNORE_LABEL), graph)


@few
@given(st.integers(2, 40), st.integers(2, 40), seeds)
def test_both_executors_give_the_same_picture(height, width, seed):
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 50 * np.sin(rows / 5 + i) + 50 * np.cos(columns / 6 + i) for i in range(3)]
    image, mask = np.stack(waves, -1).astype(np.uint8), labels((height, width), seed)
    rng = np.random.default_rng(seed)
    augmentation = dataclasses.replace(
        places(seed),
        blur=rng.uniform(0, 2),
        **({"colour": ColourRange()} if rng.integers(2) else {"grey": GreyRange()}),
        cutout=Cutout(2, 0.3) if rng.integers(2) else None,
    )
    graph, array = rendered(augmentation, image, mask, seed, (24, 32))
    assert np.abs(graph[0] - array[0]).max() < 4
    assert (graph[1] != array[1]).mean() < 0.1  # where two pixels are equally near


@few
@given(seeds)
def test_the_same_seed_gives_the_same_picture(seed):
    augmentation = dataclasses.replace(places(seed), noise=20.0, blur=1.0, grey=GreyRange(), cutout=Cutout())
    image, mask = noise_image((30, 26), 1), labels((30, 26), 1)
    for once, again in zip(*(rendered(augmentation, image, mask, seed, (24, 32)) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(once[0], again[0])
        np.testing.assert_array_equal(once[1], again[1])
