"""What a training warns of, and what it does not."""

import re

import numpy as np
import pytest
import tensorflow as tf
from _watched import described, endless, pictures, small_model, train
from tensorflow import keras

from kerasseg import spec
from kerasseg.training._first_look import FirstLook

pytestmark = pytest.mark.usefixtures("undrawn")


def warned(caplog):
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "kerasseg.training")


def test_a_sound_training_warns_of_nothing(tmp_path, caplog):
    train(tmp_path / "run", steps=24, every=12)
    assert warned(caplog) == ""
    assert not (tmp_path / "run" / "warnings.txt").exists()


def test_warnings_are_said_once_and_kept(tmp_path, caplog):
    image, mask = pictures()
    _, run = train(tmp_path / "run", endless(image / 255, mask), val_data=None, steps=24, every=12)
    assert warned(caplog).count("leave out a division by 255") == 1
    text = run.warnings.read_text()
    assert text == warned(caplog) + "\n"
    # As many steps, or fewer: tf.data makes batches ahead.
    assert re.match(r"step (1\d|20): the images of the first 20 batches hold no value above", text)


@pytest.mark.parametrize("poison", ["image", "weight"])
def test_a_loss_that_is_no_number_ends_training_at_that_step(tmp_path, poison):
    """In batch 5 of 12; what was reached before stays."""
    image, mask = pictures()

    def batches():
        for step in range(12):
            x, w = image.copy(), np.ones(mask.shape, np.float32)
            if step == 4:
                (x if poison == "image" else w)[0, 5] = np.nan
            yield x, mask, w

    signature = [tf.TensorSpec(a.shape, a.dtype) for a in (image, mask)]
    signature = (*signature, tf.TensorSpec(mask.shape, tf.float32))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    with pytest.raises(spec.DataError) as error:
        train(tmp_path / "run", data, steps=12, every=3)
    text = str(error.value)
    assert "after step 5 (at the last 4 steps: " in text
    assert "a learning rate too high (0.05 now)" in text
    assert "last.keras in this one is of step 3" in text
    assert ("images that hold NaN or infinity" in text) == (poison == "image")


def test_float16_is_named_where_it_is_used(tmp_path, monkeypatch):
    image, mask = pictures()
    data = tf.data.Dataset.from_tensors((image, mask, np.full(6, np.nan, np.float32))).repeat()
    with pytest.raises(spec.DataError) as error:
        train(tmp_path / "one", data)
    assert "float16" not in str(error.value)
    assert "of step" not in str(error.value)
    monkeypatch.setattr(keras.mixed_precision.global_policy().__class__, "name", "mixed_float16", raising=False)
    with pytest.raises(spec.DataError, match="overflow in float16: use bfloat16"):
        train(tmp_path / "two", data)


def test_a_loss_that_explodes_is_warned_of(tmp_path, caplog):
    train(tmp_path / "run", model=small_model(rate=300.0), steps=24, every=12)
    assert "the training diverges; lower the learning rate (300 now) to a tenth" in warned(caplog)


def test_a_class_without_pixels_in_the_split_is_named_at_the_start(tmp_path, caplog):
    train(tmp_path / "run", dataset=described((9, 9, 0)))
    assert "step 0: class 'void-like' is in no mask of the split 'train'" in warned(caplog)


def test_a_class_that_no_training_mask_shows_is_named_once_an_epoch_has_passed(tmp_path, caplog):
    data = endless(*pictures(labels=(0, 2)))
    train(tmp_path / "short", data, steps=4, dataset=described(num_examples=9))
    assert "'bright'" not in warned(caplog)
    train(tmp_path / "run", data, steps=6, dataset=described(num_examples=9))
    assert "step 6: class 'bright' is in none of the 12 training images so far: it cannot be learnt" in warned(caplog)


def test_labels_out_of_range_end_training_and_the_error_says_which(tmp_path):
    image, mask = pictures()
    with pytest.raises(spec.DataError) as error:
        train(tmp_path / "run", endless(image, np.where(mask == 2, 7, mask)))
    text = str(error.value)
    assert "expected labels 0..2 in the mask, or 255" in text
    assert "received 0 to 7" in text
    assert "tools/check_data.py" in text


@pytest.mark.slow
def test_a_model_that_predicts_one_class_is_warned_of(tmp_path, caplog):
    model = small_model(rate=1e-9)
    model.get_layer("logits").bias.assign([0.0, 1000.0, 0.0])
    train(tmp_path / "run", model=model)
    assert "step 2: the model predicts 'bright' at every pixel of the validation images" in warned(caplog)
    assert "start from pretrained weights" in warned(caplog)


def test_batches_of_ignored_pixels_alone_are_warned_of_early_and_late(tmp_path, caplog):
    image, mask = pictures(number=2)
    empty = tf.data.Dataset.from_tensors((image, np.full_like(mask, 255)))
    sound = tf.data.Dataset.from_tensors((image, mask))
    train(tmp_path / "late", sound.repeat(25).concatenate(empty).concatenate(sound.repeat()), steps=30, every=15)
    text = warned(caplog)
    assert re.match(r"step (2[0-6]): all pixels of a batch have the ignored label 255 \(1 such batches so far\)", text)
    caplog.clear()
    train(tmp_path / "early", empty.repeat(), steps=2)
    assert "step 1: all pixels of a batch" in warned(caplog)


def test_masks_of_0_and_255_are_warned_of(tmp_path, caplog):
    image, mask = pictures()
    train(tmp_path / "run", endless(image, np.where(mask == 1, 255, 0)), steps=20, every=20)
    assert "hold 0 and 255 only, and 255 is ignored" in warned(caplog)


def test_the_look_at_batches_changes_nothing_and_takes_what_it_knows():
    image, mask = pictures()
    seen = FirstLook(255)
    for (x, y), number in zip(seen.through(endless(image, mask).take(3)), range(3), strict=True):
        np.testing.assert_array_equal(x, image[2 * number : 2 * number + 2])
        np.testing.assert_array_equal(y, mask[2 * number : 2 * number + 2])
    assert (seen.batches, seen.batch_size, seen.all_ignored, seen.done) == (3, 2, 0, False)
    assert seen.highest == pytest.approx(image[:, ::8, ::8].max())
    np.testing.assert_array_equal(seen.labels, np.bincount(mask[:, ::8, ::8].ravel(), minlength=256))
    for strange in (tf.data.Dataset.range(3), tf.data.Dataset.from_tensors({"image": image})):
        assert FirstLook(255).through(strange) is strange
