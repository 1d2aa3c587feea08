"""Parts of a page of HTML: numbers, bars, tables, swatches and pictures inside the page itself."""

import base64
import io
from html import escape

from PIL import Image

_SIDE = 400


def percent(value, digits=1):
    """Returns a share as per cent; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def card(label, value, note=""):
    """One figure, what it is, and a note below it: a part of a definition list."""
    unit = "" if value is None else '<span class="soft"> %</span>'
    below = f'<dd class="note">{escape(note)}</dd>' if note else ""
    return f'<div><dt>{escape(label)}</dt><dd class="value">{percent(value)}{unit}</dd>{below}</div>'


def bar(value):
    """A table cell with a number and its bar; the number alone is read out."""
    if value is None:
        return '<td class="bar"><div><b>–</b></div></td>'
    return (
        f'<td class="bar"><div><b>{percent(value)}</b><span class="track" aria-hidden="true">'
        f'<i style="--share:{100 * value:.2f}%"></i></span></div></td>'
    )


def table(caption, head, rows):
    """A table that scrolls on its own where it is too large; `head` is {column: "", "bar" or "text"}."""
    cells = "".join(f'<th scope="col" class="{kind}">{escape(text)}</th>' for text, kind in head.items())
    return (
        f'<figure class="table"><figcaption>{escape(caption)}</figcaption>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></figure>"
    )


def swatch(colour):
    """A class's colour."""
    red, green, blue = (int(v) for v in colour)
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'


def thumbnail(picture):
    """Returns a picture, uint8 [H, W, 3], as a PIL image of 400 pixels a side at most."""
    small = Image.fromarray(picture)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=None)
    return small


def inlined(picture, alt, form):
    """A PIL image inside the page, form "JPEG" or "PNG", with the text that stands for it."""
    data = io.BytesIO()
    # Colours of classes have hard edges, which halved chroma would blur. No "optimize": it wants the whole file in one
    # buffer, which noise overflows.
    picture.save(data, form, **({"quality": 78, "subsampling": 0} if form == "JPEG" else {}))
    source = f"data:image/{form.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
    small = ' class="small"' if max(picture.size) < 200 else ""
    return f'<img{small} src="{source}" width="{picture.width}" height="{picture.height}" alt="{escape(alt)}">'
