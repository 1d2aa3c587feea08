"""A picture of a training."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kerasseg.training._state import TrainingState

_CLASS = "val_iou/"
_MOST_LINES = 8


def plot_curves(state: TrainingState, path: Path | BinaryIO, palette: Sequence[Sequence[int]] | None = None) -> None:
    """Draws loss, mIoU, learning rate and the IoU of each class over the steps, as a PNG.

    What the state's rows do not have stays empty. A few classes are lines, many are the rows of a map.

    Args:
        state: With one row of history at least.
        path: Of the file, or a file.
        palette: The classes' colours, RGB 0-255. None: Matplotlib's.
    """
    rows = state.history
    names = [key.removeprefix(_CLASS) for key in rows[-1] if key.startswith(_CLASS)]
    as_map = len(names) > _MOST_LINES
    figure, (loss, iou, rate, per_class) = _panels(names, as_map)
    _lines(loss, rows, "loss", "loss")
    _lines(iou, rows, "mean_iou", "mean IoU")
    _best(iou, state.best)
    _rate(rate, rows)
    if as_map:
        _class_map(figure, per_class, rows, names)
    elif names:
        _class_lines(per_class, rows, names, palette)
    figure.savefig(path, dpi=100, format="png", pil_kwargs={"compress_level": 3})


def _panels(names, as_map):
    """Returns a figure and four axes, two by two; the last is None where there are no classes.

    Placed by hand: Matplotlib's own layout engines draw everything twice, which takes as long as all the rest.
    """
    # Here, not above: matplotlib takes a second to import. `Figure` without pyplot needs no screen.
    from matplotlib.figure import Figure

    side, height, edge = 4.6, 3.3, 0.6  # inches
    lower = max(height, (0.16 if len(names) <= 60 else 0.1) * len(names)) if as_map else height
    label = 0.45 + 0.07 * max(map(len, names)) if as_map else edge  # left of the fourth
    right = 0.7 if as_map else 0.2
    width, total = edge + side + max(label, edge) + side + right, edge + lower + 0.9 + height + 0.4
    figure = Figure(figsize=(width, total))
    second = width - side - right
    places = [
        (edge, total - height - 0.4, side, height),
        (second, total - height - 0.4, side, height),
        (edge, edge + lower - height, side, height),
        (second, edge, side, lower),
    ]
    if not names:
        places.pop()
    scale = (width, total, width, total)
    axes = [figure.add_axes([v / by for v, by in zip(place, scale, strict=True)]) for place in places]
    return figure, [*axes, *([None] * (4 - len(axes)))]


def _lines(axes, rows, key, title):
    """Draws a quantity of training and of validation."""
    for prefix, label in (("", "training crops"), ("val_", "validation images")):
        _line(axes, rows, prefix + key, label)
    axes.set(xlabel="step", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right" if key == "loss" else "lower right")
    values = np.array([v for row in rows for v in (row.get(key), row.get("val_" + key)) if v], float)
    if key == "loss" and values.size and 0 < values.min() < values.max() / 30:
        axes.set_yscale("log")


def _line(axes, rows, key, label, **options):
    points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 50 else None, **options)


def _best(axes, best):
    if best is not None:
        axes.axvline(best["step"], color="grey", linestyle=":")
        axes.set_title(f"mean IoU (best {best['val_mean_iou']:.3f} at step {best['step']})")


def _rate(axes, rows):
    _line(axes, rows, "learning_rate", "", color="tab:grey")
    axes.set(xlabel="step", title="learning rate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    axes.grid(alpha=0.3)


def _class_lines(axes, rows, names, palette):
    for number, name in enumerate(names):
        _line(axes, rows, _CLASS + name, name, color=_line_colour(palette, number))
    axes.set(xlabel="step", title="IoU of each class, validation images", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")


def _line_colour(palette, number):
    """Returns a class's colour, dark enough to be seen on white; None: the next of Matplotlib's."""
    if palette is None or number >= len(palette):
        return None
    colour = np.array(palette[number], float) / 255
    brightness = colour @ (0.299, 0.587, 0.114)
    return tuple(colour * min(1.0, 0.7 / max(brightness, 1e-6)))


def _class_map(figure, axes, rows, names):
    """Draws classes as rows, the newest IoU beside the name, and validations as columns; none is left white."""
    rows = [row for row in rows if _CLASS + names[0] in row]
    steps = np.array([row["step"] for row in rows], float)
    values = np.array([[row.get(_CLASS + name) for row in rows] for name in names], float)
    before = 2 * steps[0] - steps[1] if len(steps) > 1 else 0.0
    edges = np.concatenate([[max(0.0, before)], steps])
    drawn = axes.pcolormesh(edges, np.arange(len(names) + 1), values, cmap="viridis", vmin=0, vmax=1)
    last = ["-" if np.isnan(value) else f"{value:.2f}" for value in values[:, -1]]
    labels = [f"{name} {value}" for name, value in zip(names, last, strict=True)]
    axes.set_yticks(np.arange(len(names)) + 0.5, labels, fontsize=8 if len(names) <= 60 else 5)
    axes.invert_yaxis()
    axes.set(xlabel="step", title="IoU of each class, validation images")
    figure.colorbar(drawn, cax=axes.inset_axes([1.02, 0, 0.03, 1]))
