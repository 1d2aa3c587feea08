"""Plans: drawn once, within their ranges; carried out alike by TensorFlow and by OpenCV; exact where they can be."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerasseg import augment
from kerasseg._opencv import cv2
from kerasseg.augment import Augmentation, ColourRange, Cutout, GreyRange, GridElastic, SimardElastic
from kerasseg.augment import _draw as plans

EXACT = int(cv2.__version__.split(".")[0]) >= 5
"""Whether this OpenCV interpolates at exact positions, and not at those rounded to 1/32 pixel."""

MIDDLE = dict.fromkeys(("rotation", "shift_y", "shift_x"), 0.5)
"""Numbers that draw no rotation and no shift."""


def sample(height=40, width=52, channels=3, seed=0):
    """A smooth picture, with maps that tell each pixel's place."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [127 + 100 * np.sin((y * (c + 1) + x * (2 - c) + seed) / 9) for c in range(channels)]
    place = (y * width + x).astype(np.int32)
    mask = ((x // 7 + y // 5) % 4).astype(np.uint8)
    mask[:3, :3] = 255
    image = np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8)
    return {"image": image, "mask": mask, "weight": (place % 7 / 2).astype(np.float32), "instances": place}


def drawn_plan(augmentation, source, crop_size, seed=0, **fixed):
    numbers = plans.numbers(tf.constant([seed, 5], tf.int64)) | {k: tf.constant(v) for k, v in fixed.items()}
    size = tf.constant(source["image"].shape[:2])
    return plans.plan(augmentation, numbers, size, crop_size, source["image"].shape[2])


def cut(source, plan):
    top, left, height, width = np.array(plan.window).tolist()
    return {name: array[top : top + height, left : left + width] for name, array in source.items()}


def with_tensorflow(augmentation, source, plan):
    window = {name: tf.constant(array) for name, array in cut(source, plan).items()}
    rendered = augment.render(window, plan, augmentation)
    return {name: array.numpy() for name, array in rendered.items()}


def with_opencv(augmentation, source, plan, dtype=np.uint8):
    plan = tf.nest.map_structure(lambda part: None if part is None else part.numpy(), plan)
    height, width = plan.size if plan.turns is None or plan.turns % 2 == 0 else plan.size[::-1]
    into = {name: np.full((height, width, *a.shape[2:]), 77, a.dtype) for name, a in source.items()}
    into["image"] = into["image"].astype(dtype)
    augment.render_cv(cut(source, plan), plan, augmentation, into)
    return into


def both(augmentation, source, crop_size, seed=0, **fixed):
    plan = drawn_plan(augmentation, source, crop_size, seed, **fixed)
    return with_tensorflow(augmentation, source, plan), with_opencv(augmentation, source, plan)


AUGMENTATIONS = {
    "scale": Augmentation(scale=(0.5, 2.0), flip_left_right=True),
    "small": Augmentation(scale=(0.3, 0.6), crop="centre", flip_up_down=True, fill=(9.0, 8.0, 7.0)),
    "turns": Augmentation(quarter_turns=True, flip_left_right=True, flip_up_down=True, fill=3.0),
    "colour": Augmentation(scale=(0.7, 1.4), colour=ColourRange()),
    "grey": Augmentation(crop="centre", grey=GreyRange()),
    "rotation": Augmentation(scale=(0.7, 1.4), rotation=180.0, shift=5.0, fill=0.0),
    "mirror": Augmentation(scale=(0.5, 0.7), border="mirror"),
    "elastic": Augmentation(elastic=GridElastic(3.0), border="mirror", rotation=30.0, flip_up_down=True),
    "blur": Augmentation(blur=2.0, scale=(0.8, 1.2)),
    "cutout": Augmentation(cutout=Cutout(3, 0.3), fill=50.0),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("crop_size", [(33, 41), (48, 40), None])
def test_both_engines_give_the_same_picture(name, crop_size):
    source = sample()
    for seed in range(6):
        ours, theirs = both(AUGMENTATIONS[name], source, crop_size, seed)
        assert ours["image"].shape == theirs["image"].shape
        if crop_size is not None:
            assert ours["image"].shape == (*crop_size, 3)
        difference = np.abs(ours["image"] - theirs["image"].astype(np.float32))
        assert difference.max() < (3 if EXACT else 5), seed
        assert difference.mean() < 0.6, seed
        # The pixels' places: OpenCV's nearest one is another where two are equally near.
        (y, x), (other_y, other_x) = (np.divmod(result["instances"], 52) for result in (ours, theirs))
        known = (ours["mask"] != 255) & (theirs["mask"] != 255)
        assert np.abs(y - other_y)[known].max() <= 1
        assert np.abs(x - other_x)[known].max() <= 1
        assert (ours["instances"] != theirs["instances"]).mean() < 0.2, seed


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["scale", "turns", "grey", "colour", "elastic"])
def test_any_number_of_channels(name, channels):
    source = sample(channels=channels)
    ours, theirs = both(AUGMENTATIONS[name], source, (30, 30), seed=3)
    assert ours["image"].shape == theirs["image"].shape == (30, 30, channels)
    assert np.abs(ours["image"] - theirs["image"].astype(np.float32)).max() < 3


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_maps_move_as_one(name):
    source = sample()
    for result in both(AUGMENTATIONS[name], source, (44, 44), seed=1):
        known = result["mask"] != 255
        place = result["instances"][known]
        # A pixel's place says what its mask and weight were: they came along.
        np.testing.assert_array_equal(result["mask"][known], source["mask"].ravel()[place])
        np.testing.assert_array_equal(result["weight"][known], source["weight"].ravel()[place])


@pytest.mark.parametrize("border", ["fill", "mirror"])
def test_the_identity_touches_no_pixel(border):
    source = sample()
    for result in both(Augmentation(border=border), source, (40, 52)):
        for name, array in source.items():
            np.testing.assert_array_equal(result[name], array)


@pytest.mark.parametrize("crop_size", [(40, 52), (31, 40), (41, 53), (47, 30), (90, 91), (1, 1)])
def test_the_central_crop_is_the_originals(crop_size):
    source = sample()
    expected = augment.centre_crop({k: tf.constant(v) for k, v in source.items()}, crop_size, fill=4.0)
    for result in both(Augmentation(crop="centre", fill=4.0), source, crop_size):
        for name in source:
            np.testing.assert_array_equal(result[name], expected[name])


def test_a_rescaled_crop_is_a_crop_of_the_rescaled_image():
    y, x = np.mgrid[:80, :90]
    source = {"image": np.stack([y, x, y + x], -1).astype(np.uint8)}
    for seed in range(5):
        plan = drawn_plan(Augmentation(scale=(0.5, 2.0)), source, (30, 32), seed)
        scale = 0.5 + 1.5 * float(plans.numbers(tf.constant([seed, 5], tf.int64))["scale"])
        whole = augment.rescale({"image": tf.constant(source["image"])}, scale)["image"].numpy()
        top, left = np.rint(np.array(plan.window)[:2] * scale).astype(int)
        expected = whole[top : top + 30, left : left + 32]
        result = with_tensorflow(Augmentation(), source, plan)["image"]
        height, width = expected.shape[:2]
        # The window is cut at whole pixels of the source: the picture may lie half a one off, and the corner rounded.
        assert np.abs(result[1 : height - 1, 1 : width - 1] - expected[1:-1, 1:-1])[..., :2].max() <= 1.6


def test_every_place_is_drawn_and_no_other():
    source = sample(12, 9)
    places = [np.array(drawn_plan(Augmentation(), source, (10, 9), seed).window) for seed in range(60)]
    assert {tuple(place) for place in places} == {(top, 0, 10, 9) for top in range(3)}


def test_scales_come_from_the_range_or_its_steps():
    source = sample(100, 100)

    def scales(augmentation):
        plans = [drawn_plan(augmentation, source, (25, 25), seed) for seed in range(80)]
        return np.array([25 / float(plan.window[2]) for plan in plans])

    continuous = scales(Augmentation(scale=(0.5, 2.0)))
    assert 0.49 < continuous.min() < 0.6
    assert 1.8 < continuous.max() < 2.1
    assert len(set(continuous)) > 25
    steps = {round(25 / s) for s in scales(Augmentation(scale=(0.5, 2.0), scale_step=0.5))}
    assert steps == {50, 25, 17, 12, 13}  # 12.5 pixels are one or the other


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_and_flips_are_numpys(turns):
    source = sample()
    augmentation = Augmentation(quarter_turns=True, flip_left_right=True, flip_up_down=True)
    size = (40, 52) if turns % 2 == 0 else (52, 40)
    fixed = {"turns": (turns + 0.5) / 4, "up_down": 0.1, "left_right": 0.9}
    for result in both(augmentation, source, size, **fixed):
        for name, array in source.items():
            np.testing.assert_array_equal(result[name], np.rot90(array[::-1], turns))


def test_a_rotation_by_a_right_angle_and_a_shift_are_numpys():
    source = sample(41, 41)
    augmentation = Augmentation(rotation=90.0, shift=10.0, fill=0.0)
    for number, turns in ((1.0, -1), (0.0, 1)):
        for result in both(augmentation, source, (41, 41), rotation=number, shift_y=0.5, shift_x=0.5):
            np.testing.assert_array_equal(result["instances"], np.rot90(source["instances"], turns))
            np.testing.assert_allclose(result["image"], np.rot90(source["image"], turns), atol=0.6)
    for result in both(augmentation, source, (41, 41), rotation=0.5, shift_y=0.75, shift_x=0.3):
        np.testing.assert_array_equal(result["instances"][5:, :37], source["instances"][:36, 4:])
        assert (result["mask"][:5] == 255).all()
        assert (result["mask"][:, 37:] == 255).all()
        assert (result["image"][:4] == 0).all()


def test_mirrored_borders_are_numpys():
    source = sample()
    for result in both(Augmentation(crop="centre", border="mirror"), source, (40 + 30, 52 + 70)):
        for name, array in source.items():
            width = [(15, 15), (35, 35)] + [(0, 0)] * (array.ndim - 2)
            np.testing.assert_array_equal(result[name], np.pad(array, width, mode="reflect"))


@pytest.mark.parametrize("elastic", [GridElastic(4.0), SimardElastic(100.0, 5.0)])
def test_deformations_move_pixels_smoothly(elastic):
    source = sample(96, 96)
    for result in both(Augmentation(elastic=elastic, border="mirror"), source, (96, 96)):
        y, x = np.divmod(result["instances"], 96)
        moved = np.stack([y - np.arange(96)[:, None], x - np.arange(96)[None, :]])[:, 12:-12, 12:-12]
        assert 0.5 < np.abs(moved).mean() < 15
        assert np.abs(np.diff(moved, axis=1)).max() <= 3
        assert np.abs(np.diff(moved, axis=2)).max() <= 3


def test_noise_has_its_deviation_and_comes_back_with_the_seed():
    source = sample(60, 60)
    source["image"][:] = 128
    augmentation = Augmentation(noise=20.0)
    for engine in (with_tensorflow, with_opencv):
        results = [
            engine(augmentation, source, drawn_plan(augmentation, source, (60, 60), s, noise=0.5)) for s in (1, 2)
        ]
        again = engine(augmentation, source, drawn_plan(augmentation, source, (60, 60), 1, noise=0.5))
        assert 9.5 < np.std(results[0]["image"].astype(float)) < 10.5
        np.testing.assert_array_equal(results[0]["image"], again["image"])
        assert (results[0]["image"] != results[1]["image"]).mean() > 0.9


def test_cutouts_hide_the_image_and_keep_the_mask():
    source = sample(60, 60)
    for result in both(Augmentation(cutout=Cutout(1, 0.5), fill=1.0), source, (60, 60), seed=4):
        hidden = (result["image"] == 1).all(-1)
        rows, columns = hidden.any(1), hidden.any(0)
        assert 0 < rows.sum() <= 30
        assert 0 < columns.sum() <= 30
        np.testing.assert_array_equal(hidden, np.outer(rows, columns))
        np.testing.assert_array_equal(result["mask"], source["mask"])


def test_steps_that_are_off_change_no_other_draws():
    source = sample()
    plain = drawn_plan(Augmentation(scale=(0.5, 2.0)), source, (30, 30))
    rich = drawn_plan(Augmentation(scale=(0.5, 2.0), colour=ColourRange(), noise=3.0, blur=1.0), source, (30, 30))
    np.testing.assert_array_equal(plain.window, rich.window)


BOXES = {
    "objects": tf.constant([[0.1, 0.2, 0.5, 0.4], [0.5, 0.5, 1.0, 1.0]]),
    "object_labels": tf.constant([7, 3], tf.int64),
    "proposals": tf.constant([[0.55, 0.5, 1.0, 1.0], [0.0, 0.0, 0.1, 0.1]]),
}


def box_view(augmentation, boxes, size=(200, 100), crop_size=(224, 224), **fixed):
    numbers = plans.numbers(tf.constant([1, 2], tf.int64)) | {k: tf.constant(v) for k, v in fixed.items()}
    view, label = plans.box_view(augmentation, numbers, boxes, tf.constant(size), crop_size)
    return view.numpy(), int(label)


def test_an_objects_view_is_a_part_of_its_enlarged_box():
    augmentation = Augmentation(crop="object", only_object=True)
    view, label = box_view(augmentation, BOXES, object=0.2, top=0.0, left=0.9999)
    # Rows 20 to 100, enlarged about 60 to 12 .. 108; columns 20 to 40, to 18 .. 42. 224 of 250 pixels are shown.
    assert label == 7
    np.testing.assert_allclose(view, [12, 18 + 24 * 26 / 250, 96 * 224 / 250, 24 * 224 / 250], rtol=1e-5)
    assert box_view(augmentation, BOXES, object=0.7)[1] == 3


def test_proposals_that_overlap_an_object_are_taken():
    augmentation = Augmentation(crop="proposal", box_resized=1.0)
    for number in (0.0, 0.99):
        view, _ = box_view(augmentation, BOXES, proposal=number)
        np.testing.assert_allclose(view, [110, 50, 90, 50], rtol=1e-5)
    without = BOXES | {"proposals": tf.zeros([0, 4])}
    top, left, height, width = box_view(augmentation, without, object=0.99)[0]
    common = max(0, min(top + height, 200) - max(top, 100)) * max(0, min(left + width, 100) - max(left, 50))
    assert common / (height * width + 100 * 50 - common) >= 0.5


def test_records_without_objects_are_shown_whole():
    empty = {"objects": tf.zeros([0, 4]), "object_labels": tf.zeros([0], tf.int64), "proposals": tf.zeros([0, 4])}
    for crop in ("object", "proposal"):
        view, label = box_view(Augmentation(crop=crop, box_resized=1.0), empty)
        np.testing.assert_allclose(view, [0, 0, 200, 100])
        assert label == -1


def test_only_the_objects_class_is_kept():
    source = sample()
    augmentation = Augmentation(crop="object", only_object=True)
    numbers = plans.numbers(tf.constant([0, 0], tf.int64))
    view = tf.constant([0.0, 0.0, 40.0, 52.0])
    plan = plans.plan(augmentation, numbers, tf.constant([40, 52]), (40, 52), 3, view, tf.constant(2, tf.int64))
    mask = source["mask"]
    for engine in (with_tensorflow, with_opencv):
        result = engine(augmentation, source, plan)["mask"]
        np.testing.assert_array_equal(result, np.where((mask == 2) | (mask == 255), mask, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (2.0, 1.0)}, "scale: expected two factors above 0"),
        ({"crop": "middle"}, "crop: expected one of random, centre, object, proposal, received 'middle'"),
        ({"border": "wrap"}, "border: expected fill or mirror"),
        ({"fill": "median"}, "fill: expected a number, one per channel, or \"mean\", received 'median'"),
        ({"rotation": -1.0}, "rotation: expected at least 0"),
        ({"only_object": True}, 'needs crop="object"'),
        ({"colour": ColourRange(), "grey": GreyRange()}, "not both"),
        ({"elastic": GridElastic(points=9)}, "points"),
        ({"cutout": Cutout(count=20)}, "count"),
    ],
)
def test_faults_of_ranges_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Augmentation(), **options)


@pytest.mark.parametrize("crop_size", [(33, 40), None])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_of_plans_is_the_plans_of_its_samples(name, crop_size):
    seeds = tf.constant([[3, 1], [-5, 2**40], [7, -9]], tf.int64)
    sizes = tf.constant([[40, 52], [20, 90], [300, 11]])
    batch = tf.function(augment.draw_plans)(AUGMENTATIONS[name], seeds, sizes, crop_size, 3)
    for i, parts in enumerate(zip(*(tf.unstack(part) for part in leaves(batch)), strict=True)):
        alone = augment.draw_plan(AUGMENTATIONS[name], seeds[i], sizes[i], crop_size, 3)
        tf.nest.assert_same_structure(alone, batch)
        for expected, drawn in zip(leaves(alone), parts, strict=True):
            assert drawn.dtype == expected.dtype
            np.testing.assert_allclose(drawn, expected, rtol=1e-6, atol=1e-4)


def leaves(plan):
    return [part for part in tf.nest.flatten(plan) if part is not None]
