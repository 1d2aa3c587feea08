"""Sheets of pictures: a legend of classes, and rows of pictures with captions."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kerasseg.postprocess._drawing import displayable, overlay
from kerasseg.spec import IGNORE_LABEL

_PAPER = (255, 255, 255)
_INK = (32, 32, 32)
_FRAME = (150, 150, 150)
_GAP = 8


def legend(
    class_names: Sequence[str],
    palette: np.ndarray,
    *,
    classes: Sequence[int] | None = None,
    ignored: bool = False,
    width: int | None = None,
    font_size: int = 14,
) -> np.ndarray:
    """Draws the class names, each beside a swatch of its colour.

    Args:
        class_names: K names.
        palette: RGB colours 0-255, at least K of them.
        classes: The ids to show, for instance `numpy.unique(mask)` (255 among them sets `ignored`); None: all.
        ignored: Whether to show the hatching of ignored pixels too.
        width: Pixels to fill before a new line begins; None: a column of one class a line.
        font_size: Pixels.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    ids = range(len(class_names)) if classes is None else [int(i) for i in classes]
    ignored = ignored or IGNORE_LABEL in ids
    unknown = [i for i in ids if i != IGNORE_LABEL and not 0 <= i < min(len(class_names), len(palette))]
    if unknown:
        raise ValueError(f"no name or no colour for the classes {unknown}: {len(class_names)} names")
    entries = [(class_names[i], np.asarray(palette)[i]) for i in ids if i != IGNORE_LABEL]
    entries += [("ignored", None)] * ignored
    font, swatch = ImageFont.load_default(font_size), font_size + 4
    widths = [int(font.getlength(name)) + swatch + 3 * _GAP for name, _ in entries]
    columns = 1 if width is None else max(1, (width - _GAP) // max(widths, default=1))
    columns = min(columns, max(len(entries), 1))
    cell, lines = max(widths, default=1), -(-len(entries) // columns)
    sheet = Image.new("RGB", (max(width or 0, columns * cell + _GAP), lines * (swatch + _GAP // 2) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for n, (name, colour) in enumerate(entries):
        x, y = n % columns * cell + _GAP, n // columns * (swatch + _GAP // 2) + _GAP // 2
        sheet.paste(Image.fromarray(_swatch(colour, swatch)), (x, y))
        draw.rectangle((x, y, x + swatch - 1, y + swatch - 1), outline=_FRAME)
        draw.text((x + swatch + _GAP, y + swatch / 2), name, _INK, font, anchor="lm")
    return np.asarray(sheet)


def _swatch(colour, side):
    if colour is not None:
        return np.full((side, side, 3), colour, np.uint8)
    ignored = np.full((side, side), IGNORE_LABEL, np.uint8)
    return overlay(np.full((side, side), 255, np.uint8), ignored, np.zeros((1, 3)))


def montage(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    footer: np.ndarray | Callable[[int], np.ndarray] | None = None,
    side: int = 256,
    font_size: int = 14,
) -> np.ndarray:
    """Lays pictures out in rows and columns.

    Args:
        rows: Per row its pictures, as `displayable` takes them; sizes may differ, None leaves a place empty.
        captions: For each picture a line below it; too long ones are cut with an ellipsis. None: no captions.
        titles: One per column.
        footer: A picture to put below all, such as a `legend`, or a function that makes one of the sheet's width.
        side: Pixels: pictures are shrunk, or enlarged by whole factors, so that their longer side fits.
        font_size: Pixels.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: There is no picture, or `captions` is laid out otherwise than `rows`.
    """
    if not any(picture is not None for row in rows for picture in row):
        raise ValueError("a montage needs at least one picture, got none")
    if captions is not None and [len(row) for row in captions] != [len(row) for row in rows]:
        raise ValueError("captions must be laid out as the rows of pictures are")
    columns = max(len(row) for row in rows)
    fitted = [[None if picture is None else _fit(picture, side) for picture in row] for row in rows]
    widths = [max([row[i].width for row in fitted if i < len(row) and row[i]], default=side) for i in range(columns)]
    heights = [max([picture.height for picture in row if picture], default=0) for row in fitted]
    font, line = ImageFont.load_default(font_size), font_size + 6
    below, above = (line if captions else 0), (line if titles else 0)
    size = (sum(widths) + (columns + 1) * _GAP, above + sum(heights) + len(rows) * (below + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [_GAP + sum(widths[:i]) + i * _GAP for i in range(columns)]
    for left, width, title in zip(lefts, widths, titles or (), strict=False):
        draw.text((left + width / 2, _GAP / 2 + line / 2), _cut(title, font, width), _INK, font, anchor="mm")
    top = above + _GAP
    for i, row in enumerate(fitted):
        for j, picture in enumerate(row):
            if picture:
                sheet.paste(picture, (lefts[j] + (widths[j] - picture.width) // 2, top))
            if captions:
                place = (lefts[j] + widths[j] / 2, top + heights[i] + line / 2)
                draw.text(place, _cut(captions[i][j], font, widths[j]), _INK, font, anchor="mm")
        top += heights[i] + below + _GAP
    if footer is None:
        return np.asarray(sheet)
    return _stack(np.asarray(sheet), displayable(footer(sheet.width) if callable(footer) else footer))


def _fit(picture, side):
    """Returns a PIL image: enlarged in whole steps, so that labels stay squares, or shrunk smoothly."""
    picture = Image.fromarray(displayable(picture))
    longer = max(picture.size)
    if longer <= side:
        factor = max(1, side // longer)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    return picture


def _cut(text, font, width):
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _stack(upper, lower):
    sheet = np.full((len(upper) + len(lower), max(upper.shape[1], lower.shape[1]), 3), 255, np.uint8)
    sheet[: len(upper), : upper.shape[1]] = upper
    sheet[len(upper) :, : lower.shape[1]] = lower
    return sheet
