"""Strides that become atrous rates."""

from collections.abc import Sequence


def strides_and_rates(strides: Sequence[int], output_stride: int, start: int = 1) -> list[tuple[int, int]]:
    """Returns the stride and the atrous rate of each unit of a network at a given output stride.

    Once the output stride is reached, further strides become atrous rates of all units after them. So the weights are
    the same at every output stride, and so is what they see.

    Args:
        strides: Of the units, as the classifier has them.
        output_stride: Input side ÷ side of the last unit's features.
        start: Input side ÷ side of what the first unit reads.
    Raises:
        ValueError: The strides do not lead to the output stride.
    """
    result, stride, rate, legal = [], start, 1, {start}
    for step in strides:
        keeps = stride == output_stride
        result.append((1 if keeps else step, rate))
        rate *= step if keeps else 1
        stride *= 1 if keeps else step
        legal.add(max(legal) * step)
    if stride != output_stride:
        raise ValueError(f"output_stride must be one of {', '.join(map(str, sorted(legal)))}, got {output_stride}")
    return result
