"""A picture of a training."""

from pathlib import Path

from kerasseg.training._state import TrainingState


def plot_curves(state: TrainingState, path: Path) -> None:
    """Draws loss and mIoU, in training and validation, over the steps, as a PNG."""
    # Here, not above: matplotlib takes a second to import. `Figure` without pyplot needs no screen.
    from matplotlib.figure import Figure

    steps = [row["step"] for row in state.history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, title in zip(figure.subplots(1, 2), ("loss", "mean_iou"), ("loss", "mean IoU"), strict=True):
        for prefix, label in (("", "training crops"), ("val_", "validation images")):
            values = [row.get(prefix + key) for row in state.history]
            if None not in values:
                axes.plot(steps, values, label=label, marker="." if len(steps) < 50 else None)
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    best = state.best
    if best is not None:
        axes.axvline(best["step"], color="grey", linestyle=":")
        axes.set_title(f"mean IoU (best {best['val_mean_iou']:.3f} at step {best['step']})")
    figure.savefig(path, dpi=110)
