"""A confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np

_MOST_WITH_NUMBERS = 40


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draws a confusion matrix: rows as shares of the true pixels, in percent.

    Classes that do not occur in the truth stay empty. More than 40 classes have no numbers in their cells.

    Args:
        matrix: Counts, integer [K, K], rows truth, columns prediction.
        class_names: K names.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    # Here, not above: matplotlib takes a second to import. `Figure` without pyplot needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    K = len(class_names)
    turned = K > 4 or max(map(len, class_names)) > 12  # names below the columns
    # Placed by hand: Matplotlib's own layout engine draws everything twice. In inches.
    side = min(0.42 * K, 17) if K > 4 else 3.2
    font_size = 10 if K <= _MOST_WITH_NUMBERS else 850 / K
    names = 0.5 + 0.0085 * font_size * max(map(len, class_names))
    below = names if turned else 0.6
    width, height = names + side + 0.9, below + side + 0.4
    figure = Figure(figsize=(width, height), dpi=110)
    axes = figure.add_axes([names / width, below / height, side / width, side / height])
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(K), class_names, rotation=90 if turned else 0, fontsize=font_size)
    axes.set_yticks(range(K), class_names, fontsize=font_size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title("% of the true pixels of a class")
    axes.set_xticks(np.arange(K - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(K - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    for row, column in np.argwhere(share >= (0.5 if K > 4 else 0)) if K <= _MOST_WITH_NUMBERS else ():
        value = share[row, column]
        text = f"{value:.1f}" if K <= 4 else f"{value:.0f}"
        colour = "white" if value > 55 else "0.15"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=12 if K <= 4 else 7)
    bar = figure.add_axes(
        [(names + side + 0.15) / width, (below + side / 8) / height, 0.15 / width, side * 0.75 / height]
    )
    figure.colorbar(picture, cax=bar)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
