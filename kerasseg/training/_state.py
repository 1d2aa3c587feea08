"""How far a training is."""

import dataclasses


@dataclasses.dataclass
class TrainingState:
    """What a checkpoint holds beside the weights and the optimiser.

    Attributes:
        step: Steps done: updates of the weights.
        history: One row for each validation: step, loss, mean_iou (both over the steps since the last one), what
            `Validation` gives, learning_rate, seconds (of training, since the very start).
    """

    step: int = 0
    history: list[dict] = dataclasses.field(default_factory=list)

    @property
    def best(self) -> dict | None:
        """The first of the rows with the highest val_mean_iou; None without validation."""
        scored = [row for row in self.history if "val_mean_iou" in row]
        return max(scored, key=lambda row: row["val_mean_iou"]) if scored else None

    @property
    def without_better(self) -> int:
        """Validations since the best one; 0 without validation."""
        rows = [row for row in self.history if "val_mean_iou" in row]
        return 0 if self.best is None else len(rows) - 1 - next(i for i, row in enumerate(rows) if row is self.best)

    @property
    def seconds(self) -> float:
        """Time spent so far."""
        return self.history[-1]["seconds"] if self.history else 0.0
