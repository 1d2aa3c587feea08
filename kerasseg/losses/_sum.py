"""Several losses added up."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._cross_entropy import CrossEntropy
from kerasseg.losses._overlap import Dice
from kerasseg.losses._segmentation_loss import SegmentationLoss
from kerasseg.spec import IGNORE_LABEL


@keras.utils.register_keras_serializable("kerasseg")
class Sum(keras.losses.Loss):
    """Σ weight·loss of one output: `Sum([CrossEntropy(), Lovasz()], [1, 0.5])`.

    For losses of several outputs (deep supervision) give `model.compile` a list, and `loss_weights`.

    Args:
        losses: Losses of this package.
        weights: A factor for each; None: 1 each.
        name: Name in the logs.
    Raises:
        ValueError: There is no loss, or not a weight for each.
        TypeError: One is not a loss of this package: over several replicas its value would be added up otherwise.
    """

    def __init__(
        self, losses: Sequence[keras.losses.Loss], weights: Sequence[float] | None = None, name: str | None = None
    ):
        super().__init__(name=name, reduction="sum")
        self.losses = list(losses)
        self.weights = [1.0] * len(self.losses) if weights is None else [float(weight) for weight in weights]
        if not self.losses or len(self.weights) != len(self.losses):
            raise ValueError(f"expected losses and a weight for each, received {len(self.losses)} and {weights}")
        for loss in self.losses:
            if not isinstance(loss, SegmentationLoss | Sum):
                raise TypeError(f"expected losses of kerasseg.losses, received {loss!r}")

    def follow(self, iterations) -> None:
        """Tells each of the losses where to read the step, see `SegmentationLoss.follow`."""
        for loss in self.losses:
            loss.follow(iterations)

    def __call__(self, y_true, y_pred, sample_weight=None):
        values = [loss(y_true, y_pred, sample_weight) for loss in self.losses]
        return tf.add_n([weight * value for weight, value in zip(self.weights, values, strict=True)])

    def get_config(self):
        return {
            "losses": [keras.losses.serialize(loss) for loss in self.losses],
            "weights": self.weights,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "losses": [keras.losses.deserialize(loss) for loss in config["losses"]]})


@keras.utils.register_keras_serializable("kerasseg")
class CrossEntropyDice(Sum):
    """½·cross-entropy + Dice, the loss of UNet++; of one logit, ½·binary cross-entropy + Dice.

    Args:
        variant: "paper": Dice of each image, averaged over the batch, without smooth; or "original", its code: Dice of
            the whole batch at once, smooth 1.
        ignore_label, class_weights: Of both, see `SegmentationLoss`.
        name: Name in the logs.
    Raises:
        ValueError: An argument is not one of these.
    Reference: Zhou et al. 2018 (arXiv:1807.10165), eq. 3; MrGiovanni/UNetPlusPlus `keras/helper_functions.py`,
        `bce_dice_loss`. Differs: they subtract Dice, which makes the loss negative; here it is 1 - Dice, of the same
        gradient. They have one sigmoid for each class, here softmax.
    """

    def __init__(
        self,
        variant: str = "paper",
        ignore_label: int | None = IGNORE_LABEL,
        class_weights: Sequence[float] | None = None,
        name: str | None = None,
    ):
        dice = {"paper": {"smooth": 0.0, "per_image": True}, "original": {"smooth": 1.0, "per_image": False}}
        if variant not in dice:
            raise ValueError(f"variant must be 'paper' or 'original', received {variant!r}")
        common = {"ignore_label": ignore_label, "class_weights": class_weights}
        super().__init__([CrossEntropy(**common), Dice(**dice[variant], **common)], [0.5, 1.0], name)
        self.variant = variant

    def get_config(self):
        cross_entropy = self.losses[0].get_config()
        common = {key: cross_entropy[key] for key in ("ignore_label", "class_weights")}
        return {"variant": self.variant, **common, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
