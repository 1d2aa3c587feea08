"""Channel counts of networks made wider or narrower."""


def scaled(channels: int, width: float) -> int:
    """Returns `channels * width`, a whole number of at least 1.

    Raises:
        ValueError: It is not.
    """
    result = round(channels * width)
    if result < 1 or abs(result - channels * width) > 1e-6:
        raise ValueError(f"width must make {channels} * width a whole number >= 1, got {width}")
    return result
