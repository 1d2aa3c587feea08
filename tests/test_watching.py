"""What a training shows of itself."""

import csv

import cv2
import numpy as np
import pytest
import tensorflow as tf
from _watched import COLOURS, NAMES, pictures, small_model, train
from PIL import Image

from kerasseg import training
from kerasseg.metrics import confusion_matrix, scores
from kerasseg.postprocess import confusion_picture
from kerasseg.training import _report
from kerasseg.training._pictures import sheet
from kerasseg.training._progress import Pace
from kerasseg.training._validation import Sample


def events(folder):
    """Returns {tag: [(step, tensor)]} of TensorBoard's files in a folder, all processes together."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four steps, broken off and resumed in between."""
    directory = tmp_path_factory.mktemp("watched") / "run"
    train(directory, steps=2)
    return train(directory, steps=4)


def test_tensorboard_has_the_scores_at_the_steps_of_the_training(whole):
    state, run = whole
    learnt, scored = events(run.tensorboard / "train"), events(run.tensorboard / "validation")
    assert {"loss", "mean_iou", "learning_rate"} <= set(learnt)
    names = {"pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "iou/dark", "iou/bright", "iou/void-like"}
    assert {"loss", "mean_iou", "images", "confusion_matrix", *names} <= set(scored)
    for tag, points in [*learnt.items(), *scored.items()]:
        assert [step for step, _ in points] == [2, 4], tag
    for tag in ("loss", *names):
        expected = [row[f"val_{tag}"] for row in state.history]
        np.testing.assert_allclose([value for _, value in scored[tag]], expected, rtol=1e-6)
    for tag, file in (("images", "pictures/last.png"), ("confusion_matrix", "confusion_matrix.png")):
        width, height, encoded = scored[tag][-1][1].tolist()
        theirs = tf.io.decode_image(encoded).numpy().astype(float)
        ours = np.asarray(Image.open(run.directory / file)).astype(float)
        assert theirs.shape == ours.shape == (int(height), int(width), 3)
        assert np.abs(theirs - ours).mean() < 4


def test_the_log_has_all_scores_in_columns(whole):
    state, run = whole
    with open(run.log, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    for name in ("loss", "mean_iou", "val_loss", "val_mean_iou", "val_pixel_accuracy", "val_iou/bright", "seconds"):
        assert [float(row[name]) for row in rows] == [row[name] for row in state.history]


def test_all_scores_are_those_of_one_confusion_matrix():
    image, mask = pictures(seed=3, labels=(0, 1))
    model = small_model()
    model.get_layer("logits").bias.assign([0.0, 0.0, -1000.0])
    validation = training.Validation(model, tf.data.Dataset.from_tensor_slices((image, mask)).batch(1))
    found = validation()
    predicted = model(image).numpy().argmax(-1)
    expected = scores(confusion_matrix(mask, predicted, 3))
    for name in ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert found[f"val_{name}"] == pytest.approx(expected[name], abs=1e-12)
    assert [found[f"val_iou/{k}"] for k in range(3)] == [expected["per_class_iou"].get(str(k)) for k in range(3)]
    assert found["val_iou/2"] is None
    np.testing.assert_array_equal(validation.confusion_matrix, confusion_matrix(mask, predicted, 3))
    assert [sample.number for sample in validation.samples] == [0, 2, 3, 5]
    for sample in validation.samples:
        np.testing.assert_array_equal(sample.image, image[sample.number])
        np.testing.assert_array_equal(sample.mask, mask[sample.number])
        np.testing.assert_array_equal(sample.predicted, predicted[sample.number])


def test_the_error_map_is_red_where_the_prediction_is_wrong():
    rng = np.random.default_rng(0)
    image = np.full((64, 64, 3), 120, np.float32)
    mask = cv2.resize(rng.integers(0, 3, (4, 4)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
    predicted = np.where(np.arange(64) < 32, mask, (mask + 1) % 3).astype(np.int32)
    mask = mask.astype(np.int32)
    mask[:16] = 255
    drawn = sheet([Sample(7, image, mask, predicted)], NAMES, np.array(COLOURS))
    top, side = 28, 256  # below the titles; enlarged by 4
    cells = [drawn[top : top + side, 8 + i * (side + 8) :][:, :side].astype(int) for i in range(4)]
    red = cells[3][..., 0] - cells[3][..., 1] > 60
    assert not red[:, :126].any()
    assert not red[:62].any()
    assert red[66:, 130:].all()
    np.testing.assert_array_equal(cells[1][66:, :120], cells[2][66:, :120])
    assert np.abs(cells[1][66:, 130:] - cells[2][66:, 130:]).max(axis=2).mean() > 20
    assert (cells[0] == 120).all()


def test_large_images_are_thinned_before_they_are_drawn():
    image, mask = np.zeros((1100, 2300, 3), np.float32), np.zeros((1100, 2300), np.int32)
    drawn = sheet([Sample(0, image, mask, mask)], NAMES, np.array(COLOURS))
    assert drawn.shape[1] == 4 * 256 + 5 * 8


@pytest.mark.parametrize("num_classes", [2, 41])
def test_a_confusion_matrix_is_dark_where_it_is_large(num_classes):
    """Half of the first class is taken for the last one; classes that do not occur have empty rows."""
    names = [f"class {k}" for k in range(num_classes)]
    matrix = np.zeros((num_classes, num_classes), np.int64)
    matrix[0, [0, -1]] = 5
    drawn = confusion_picture(matrix, names)[:, :-82].astype(int)  # without the legend
    half, none = ((np.abs(drawn - colour).max(axis=2) < 3) for colour in ((106, 174, 214), (247, 251, 255)))
    rows, columns = np.nonzero(half)
    cell = (columns.max() - columns.min()) / num_classes  # the two cells are the ends of the first row
    assert half.sum() == pytest.approx(2 * cell**2, rel=0.25)
    assert rows.max() - rows.min() < 1.5 * cell or num_classes == 2
    assert none.sum() == pytest.approx((num_classes - 2) * cell**2, rel=0.25, abs=cell**2 / 2)


def test_curves_are_drawn_for_few_and_many_classes(tmp_path):
    """A line each for a few; a map of as many rows for many; without validation, what there is."""
    sizes = {}
    for number in (0, 2, 40):
        classes = {f"val_iou/{k}": None if k == 1 else 0.5 for k in range(number)}
        history = [
            {"step": s, "loss": 1 / s, "mean_iou": 0.1, "val_loss": 1.0, "val_mean_iou": s / 9, **classes}
            for s in (1, 2, 3)
        ]
        training.plot_curves(training.TrainingState(3, history), tmp_path / "curves.png", COLOURS)
        with Image.open(tmp_path / "curves.png") as picture:
            sizes[number] = picture.size
    assert sizes[0] == sizes[2]
    assert sizes[40][1] > 1.3 * sizes[2][1]
    training.plot_curves(training.TrainingState(3, [{"step": 3, "loss": 1.0, "mean_iou": 0.1}]), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 0


def test_a_picture_that_fails_does_not_cost_the_run(tmp_path, monkeypatch, caplog):
    def broken(*arguments):
        raise OSError(28, "No space left on device")

    for name in ("plot_curves", "sheet", "confusion_picture"):
        monkeypatch.setattr(_report, name, broken)
    monkeypatch.setattr(_report.tf.summary, "create_file_writer", broken)
    state, run = train(tmp_path / "run")
    assert state.step == 4
    assert run.best.exists()
    said = [record.getMessage() for record in caplog.records if "No space left" in record.getMessage()]
    assert [text.split(" cannot")[0] for text in said] == [
        "step 2: TensorBoard's files",
        "step 2: curves.png",
        "step 2: confusion_matrix.png",
        "step 2: pictures/",
    ]


def test_validations_that_follow_fast_are_not_all_drawn_but_the_last_and_the_best(tmp_path, monkeypatch):
    drawn, draw = [], _report.plot_curves
    monkeypatch.setattr(_report, "plot_curves", lambda state, *rest: (drawn.append(state.step), draw(state, *rest)))
    monkeypatch.setattr(_report, "_TIMES_DRAWING", 1e6)
    state, run = train(tmp_path / "run", steps=9, every=2)
    assert drawn == [2, 4, 9]
    pictured = [step for step, _ in events(run.tensorboard / "validation")["images"]]
    scored = [row["val_mean_iou"] for row in state.history]
    best = {row["step"] for n, row in enumerate(state.history) if scored[n] > max([-1, *scored[:n]])}
    assert pictured == sorted({*drawn, *best})
    assert [step for step, _ in events(run.tensorboard / "train")["loss"]] == [2, 4, 6, 8, 9]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "picture.png"
    _report.write_bytes(path, b"first")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        _report.write_bytes(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]


# How long it takes


def test_time_left_counts_steps_and_validations_of_this_process():
    """Steps of 2 s, the first of 60 s; a validation of 30 s after each 10; resumed at 20 of 45."""
    now = [1000.0]
    pace = Pace(45, 10, lambda: now[0])

    def pass_time(seconds, note):
        now[0] += seconds
        note()

    pass_time(60, pace.step_done)
    assert pace.seconds_left(21) == 60 * 24  # nothing else is known
    for _ in range(9):
        pass_time(2, pace.step_done)
    assert pace.seconds_left(30) == 2 * 15
    pass_time(30, pace.validation_done)
    assert pace.seconds_left(30) == 2 * 15 + 2 * 30  # after 40 and 45
    for _ in range(15):
        pass_time(2, pace.step_done)
    assert pace.seconds_left(44) == 2 * 1 + 30
    assert pace.seconds_left(45) == 0


def test_a_terminal_shows_a_bar_with_score_and_time_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    train(tmp_path / "run", progress=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "mIoU 0." in shown
    assert "validating" in shown
    assert "left" in shown
