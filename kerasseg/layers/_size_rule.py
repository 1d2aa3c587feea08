"""Which image sizes a finished model takes, and what of them its logits cover."""

import dataclasses

import tensorflow as tf
from tensorflow import keras

from kerasseg.layers._num_classes import num_classes_of

_START = 512
_SEARCH = 1024


@dataclasses.dataclass(frozen=True)
class SizeRule:
    """What a model admits along one side of its input: n = multiple * k + offset, minimum <= n <= maximum.

    Attributes:
        multiple, offset, minimum: The rule, in pixels.
        margin: How many pixels fewer the output has: 0 with same padding, 184 for the published U-Net. The output
            is the centre of the input (`kerasseg.spec.centre`).
        maximum: The largest legal size; None: there is none. Equal to `minimum` for models of one fixed size.
    """

    multiple: int = 1
    offset: int = 0
    minimum: int = 1
    margin: int = 0
    maximum: int | None = None

    def round_up(self, size):
        """Returns the smallest legal size >= `size`, were there no minimum. Works on numbers and integer tensors."""
        return -((self.offset - size) // self.multiple) * self.multiple + self.offset

    def covering(self, size: int) -> int:
        """Returns the smallest legal input side whose output is `size` pixels or more; it may exceed `maximum`."""
        return max(self.round_up(size + self.margin), self.minimum)

    def legal(self, size: int) -> int:
        """Returns the smallest legal input side >= `size`, or the largest that there is."""
        size = max(self.round_up(size), self.minimum)
        return size if self.maximum is None else min(size, self.maximum)


def size_rules(model: keras.Model) -> tuple[SizeRule, SizeRule]:
    """Finds out, by asking `model.compute_output_shape` about sizes, what height and width a model admits.

    A size is legal when the model's layers can say what comes out. So a network that takes certain sizes only has to
    say so in a layer's `compute_output_shape`: begin it with `LegalInputSize`. (Keras' own `Concatenate` does not.)
    Some three to sixty questions of milliseconds each.

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K], with H - h the same at every size.

    Returns:
        The rules of height and of width.

    Raises:
        ValueError: No legal size is found near 512, or the logits are larger than the image, or the difference
            varies with the size.
        DataError: The model has several outputs.
    """
    num_classes_of(model)
    height, width, channels = model.input_shape[1:]
    sides = (height, width)
    if height is None and width is None:
        rule = _find(lambda n: _margin(model, (n, n, channels), 1))
        return rule, rule
    rules = []
    for axis, side in enumerate(sides, start=1):
        if side is None:
            rules.append(_find(lambda n, axis=axis: _margin(model, (height or n, width or n, channels), axis)))
        else:
            margin = _checked(_margin(model, (height or _START, width or _START, channels), axis), side)
            rules.append(SizeRule(minimum=side, margin=margin, maximum=side))
    return tuple(rules)


def _margin(model, shape, axis):
    """Returns input - output along an axis. Raises where the size is illegal."""
    size = model.compute_output_shape((1, *shape))[axis]
    if size is None:  # A layer that does not tell: taken as one that keeps the size.
        return 0
    if size < 1:
        raise ValueError(f"nothing comes out of {shape}")
    return shape[axis - 1] - size


def _find(margin) -> SizeRule:
    legal, reason = [], None
    for n in range(_START, _START + _SEARCH):
        try:
            legal.append((n, margin(n)))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            reason = error
        if len(legal) == 2:
            break
    if len(legal) < 2:
        raise ValueError(
            f"expected a model that takes some image sizes of {_START} to {_START + _SEARCH} pixels a side, but it "
            f"refuses them: {reason}"
        ) from reason
    (first, expected), (second, _) = legal
    multiple = second - first
    last = first + 64 * multiple
    if margin(last) != expected:
        raise ValueError(
            f"expected logits of the image's size, or smaller by a constant, but images of {first} and {last} "
            f"pixels a side give logits of {first - expected} and {last - margin(last)}"
        )
    minimum = _smallest(first, multiple, margin)
    return SizeRule(multiple, first % multiple, minimum, _checked(expected, first))


def _smallest(legal, multiple, margin):
    """Returns the smallest legal size, by bisection between `legal` and the smallest that the rule allows."""

    def is_legal(n):
        try:
            margin(n)
        except (ValueError, TypeError, tf.errors.OpError):
            return False
        return True

    low, high = -((legal - 1) // multiple), 0  # In steps of `multiple` from `legal`.
    if is_legal(legal + low * multiple):
        return legal + low * multiple
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_legal(legal + middle * multiple) else (middle, high)
    return legal + high * multiple


def _checked(margin, size):
    if margin < 0:
        raise ValueError(f"expected logits of the image's size or smaller, got {size - margin} from {size} pixels")
    return margin
