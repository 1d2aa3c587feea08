"""Masks as colours, alone and over their image."""

import numpy as np

from kerasseg.spec import IGNORE_LABEL, voc_palette

_HATCH_PERIOD = 8
_HATCH_COLOURS = np.array([[112, 112, 112], [184, 184, 184]], np.float32)


def displayable(image: np.ndarray) -> np.ndarray:
    """Makes a picture for the eye of an image of any kind.

    One channel becomes grey; of two, the blue is left empty; of four and more the first three are shown. An image
    that would look black, because its values fill less than a quarter of their range (12-bit microscopy in 16-bit
    files), or that leaves the range, is stretched between its 0.2nd and 99.8th percentile.

    Args:
        image: [H, W] or [H, W, C]: uint8, uint16, bool, or float with the range 0-255. NaN is drawn as 0.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: `image` has another number of axes, or none of the channels.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.shape[2]:
        raise ValueError(f"expected an image [H, W] or [H, W, C], got the shape {image.shape}")
    top = {"bool": 1.0, "uint16": 65535.0}.get(image.dtype.name, 255.0)
    picture = _three_channels(np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0))
    if image.dtype == np.uint8 and picture.max(initial=0) > 64:  # By far the most frequent case.
        return picture.astype(np.uint8)
    low, high = (np.percentile(picture, (0.2, 99.8)) if picture.size else (0.0, top)) if top > 1 else (0.0, 1.0)
    if 0 < high <= top and picture.min(initial=0) >= 0 and high >= top / 4:
        low, high = 0.0, top
    return np.clip(np.round((picture - low) * (255 / max(high - low, 1e-6))), 0, 255).astype(np.uint8)


def _three_channels(image):
    channels = image.shape[2]
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    if channels == 2:
        return np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
    return image[..., :3]


def colourise(mask: np.ndarray, palette: np.ndarray, *, ignore_label: int = IGNORE_LABEL) -> np.ndarray:
    """Draws a mask in its classes' colours.

    Args:
        mask: Integer [H, W], values 0-255.
        palette: RGB colours 0-255, [K, 3] with K <= 256. Labels beyond it are black, except `ignore_label`, which has
            the VOC void's light (224, 224, 192).

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: `mask` or `palette` is not of that kind.
    """
    return _table(palette, ignore_label)[_checked(mask)]


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    palette: np.ndarray,
    alpha: float = 0.5,
    *,
    ignore_label: int = IGNORE_LABEL,
    outlines: bool = True,
) -> np.ndarray:
    """Draws a mask over its image: classes tinted and outlined, ignored pixels hatched in grey.

    A class whose colour is black (the background of most palettes) leaves the image as it is.

    Args:
        image: [H, W] or [H, W, C], as `displayable` takes it.
        mask: Integer [H, W], values 0-255.
        palette: As for `colourise`.
        alpha: Share of the class colour, 0-1; the outlines stay visible at 0.
        outlines: Whether to draw them. Where single pixels differ, as in early predictions, they hide the colours.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: The sizes differ, `alpha` is out of range, or an array is of another kind.
    """
    picture, mask = displayable(image).astype(np.float32), _checked(mask)
    if picture.shape[:2] != mask.shape:
        raise ValueError(f"the mask must have the image's size {picture.shape[:2]}, got {mask.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in 0-1, got {alpha}")
    colours = _table(palette, ignore_label)[mask].astype(np.float32)
    tinted = colours.any(axis=2) & (mask != ignore_label)
    picture[tinted] += alpha * (colours[tinted] - picture[tinted])
    if outlines:
        outline = _outline(mask) & tinted
        # Palettes are full of dark colours (VOC: 128, 0, 0), which a line on a dark picture would not show.
        picture[outline] = (colours[outline] + 255) / 2
    ignored = mask == ignore_label
    picture[ignored] = 0.3 * picture[ignored] + 0.7 * hatching(mask.shape)[ignored]
    return np.round(picture).astype(np.uint8)


def _outline(mask):
    """Returns where a pixel's label differs from that of one of its four neighbours."""
    outline = np.zeros(mask.shape, bool)
    rows, columns = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    outline[1:] |= rows
    outline[:-1] |= rows
    outline[:, 1:] |= columns
    outline[:, :-1] |= columns
    return outline


def hatching(shape: tuple[int, int]) -> np.ndarray:
    """Returns float32 [H, W, 3]: the slanting grey lines that stand for pixels that do not count."""
    rows, columns = np.indices(shape, sparse=True)
    return _HATCH_COLOURS[(rows + columns) % _HATCH_PERIOD // (_HATCH_PERIOD // 2)]


def _checked(mask):
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "uib":
        raise ValueError(f"expected an integer mask [H, W], got {mask.dtype} of the shape {mask.shape}")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise ValueError(f"expected labels of 0-255, got {mask.min()} to {mask.max()}")
    return mask.astype(np.uint8)


def _table(palette, ignore_label):
    palette = np.asarray(palette)
    if palette.ndim != 2 or palette.shape[1] != 3 or not 0 < len(palette) <= 256:
        raise ValueError(f"expected a palette [K, 3] with 1 to 256 colours, got the shape {palette.shape}")
    table = np.zeros((256, 3), np.uint8)
    table[ignore_label] = voc_palette()[255]
    table[: len(palette)] = palette
    return table
