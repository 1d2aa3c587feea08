"""The mean that is subtracted from images, for other channels than red, green and blue as well."""


def channel_means(rgb: tuple[float, float, float], channels: int) -> tuple[float, ...]:
    """Returns the mean of each channel, 0-255. Channels after the third, and all of fewer, have that of the colours.

    Args:
        rgb: Means of red, green and blue.
        channels: Of the image.
    """
    grey = sum(rgb) / 3
    return (grey,) * channels if channels < 3 else rgb + (grey,) * (channels - 3)
