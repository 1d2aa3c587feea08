"""The page of an evaluation: one HTML file that shows everything and asks nothing of any network."""

from html import escape
from pathlib import Path

import _report
import numpy as np
from _page_parts import bar, card, inlined, percent, swatch, table, thumbnail
from PIL import Image

MOST_PICTURES = 8
"""Of the worst, and of the best: what keeps the page to a few megabytes."""
_MOST_CONFUSIONS = 12
_MOST_IN_LEGEND = 16

# The page runs no script and loads nothing, and the browser holds it to that.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: dict, baseline: dict, classes, confusions: np.ndarray, extremes: list) -> str:
    """Returns the page as HTML.

    Args:
        report: The content of `report.json`.
        baseline: `kerasseg.metrics.scores` of predicting the first class everywhere.
        classes: `_pictures.Classes`.
        confusions: Picture of the confusion matrix, uint8 [H, W, 3].
        extremes: (name such as "worst_1", `_tally.Scored`) of the images to show.
    """
    worst = [item for item in extremes if item[0].startswith("worst")][:MOST_PICTURES]
    best = [item for item in extremes if item[0].startswith("best")][:MOST_PICTURES]
    sections = {
        "classes": ("Classes", _class_table(report, baseline, classes)),
        "objects": ("Objects", _object_table(report)),
        "confusions": ("Confusions", _confusions(report, classes, confusions)),
        "images": ("Images", _histogram(report["image_iou"]) + (_key_of_errors() if worst or best else "")),
        "worst": ("The worst", "".join(_image(item, classes) for item in worst)),
        "best": ("The best", "".join(_image(item, classes) for item in best)),
        "made": ("How it was made", _facts(report)),
    }
    sections = {name: item for name, item in sections.items() if item[1]}
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in sections.items())
    parts = "".join(
        f'<section id="{name}"><h2>{title}</h2>{content}</section>\n' for name, (title, content) in sections.items()
    )
    subject, details = _subject(report)
    style = Path(__file__).with_name("_page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(subject)}: evaluation</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(subject)}</h1>
<p class="soft">{escape(details)}</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
<section id="scores" aria-label="Scores">{_cards(report, baseline)}</section>
{parts}</main>
</body>
</html>
"""


def _subject(report):
    """Returns what is scored, in a few words, and on what."""
    images = f"{report['num_images']} image{'' if report['num_images'] == 1 else 's'}"
    day = report["made"]["date"][:10]
    if "model" in report:
        name = "/".join(Path(report["model"]).parts[-2:])
        return name, f"on {Path(report['data']).name}, split {report['split']}: {images}. {day}"
    return Path(report["predictions"]).name, f"against {report['labels']}: {images}. {day}"


def _cards(report, baseline):
    first = report["baseline"]["predicts"]
    cards = [
        card(label, report[name], f"all {first}: {percent(baseline[name])} %")
        for name, label in _report.MEASURES.items()
    ]
    more = [card(label, value) for label, value in _report.measures(report).items()]
    return f'<dl class="cards">{"".join(cards)}</dl><dl class="cards more">{"".join(more)}</dl>'


def _class_table(report, baseline, classes):
    matrix = np.array(report["confusion_matrix"], np.float64)
    right, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    borders = report.get("per_class_boundary_f1")
    head = {"class": "text", "IoU, %": "bar", "right of the true, %": "", "right of the predicted, %": ""}
    head |= {"boundary F1, %": ""} if borders is not None else {}
    head |= {"share of the truth, %": "", f"IoU of all {classes.names[0]}, %": ""}
    rows = []
    for k, name in enumerate(classes.names):
        values = [right[k] / true[k] if true[k] else None, right[k] / predicted[k] if predicted[k] else None]
        values += [] if borders is None else [borders.get(name)]
        cells = "".join(f"<td>{percent(value)}</td>" for value in values)
        rows.append(
            f'<tr><th scope="row" title="{escape(name)}">{swatch(classes.palette[k])}{escape(name)}</th>'
            f"{bar(report['per_class_iou'].get(name))}{cells}<td>{percent(true[k] / max(true.sum(), 1), 2)}</td>"
            f"<td>{percent(baseline['per_class_iou'].get(name))}</td></tr>"
        )
    absent = report["absent_classes"]
    note = f" {len(absent)} in neither truth nor prediction (–) are left out of every mean." if absent else ""
    return table(f"{len(classes.names)} classes, over all pixels of all images.{note}", head, rows)


def _object_table(report):
    by_iou = report.get("mean_average_precision_by_iou")
    if not by_iou:
        return ""
    rows = [f'<tr><th scope="row">{threshold}</th>{bar(value)}</tr>' for threshold, value in by_iou.items()]
    caption = "Average precision, TP / (TP + FP + FN), of objects that overlap by more than an IoU; mean over images"
    return table(caption, {"IoU above": "text", "average precision, %": "bar"}, rows)


def _confusions(report, classes, picture):
    matrix = np.array(report["confusion_matrix"], np.float64)
    wrong = matrix - np.diag(matrix.diagonal())
    total, true = matrix.sum(), matrix.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    rows = []
    for k, j in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if wrong[k, j]:
            names = "".join(
                f'<td class="text">{swatch(classes.palette[i])}{escape(classes.names[i])}</td>' for i in (k, j)
            )
            shares = f"<td>{percent(wrong[k, j] / total, 2)}</td><td>{percent(wrong[k, j] / true[k])}</td>"
            rows.append(f"<tr>{names}{shares}</tr>")
    head = {"truth": "text", "predicted": "text", "of all pixels, %": "", "of the true class, %": ""}
    listed = table("What is taken for what: the most frequent mistakes", head, rows) if rows else "<p>None.</p>"
    alt = f"Confusion matrix of {len(classes.names)} classes, rows truth, columns prediction, in % of each row"
    data = Image.fromarray(picture).quantize(128, dither=Image.Dither.NONE)
    # As large as it is drawn where it would be illegible else: it scrolls.
    kind = "paper large" if picture.shape[1] > 1300 else "paper"
    return (
        f'{listed}<div class="{kind}" tabindex="0" role="region" aria-label="Confusion matrix">'
        f"{inlined(data, alt, 'PNG')}</div>"
    )


def _histogram(image_iou):
    """How many images reach which mean IoU, in steps of 5 %."""
    if len(image_iou) < 2:
        return ""
    values = np.array(list(image_iou.values()))
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    heights = 100 * counts / counts.max()
    bars = "".join(
        f'<rect x="{20 + 28 * i}" y="{120 - h:.1f}" width="24" height="{h:.1f}"><title>{5 * i} to {5 * i + 5} %: '
        f"{count} images</title></rect>"
        for i, (h, count) in enumerate(zip(heights, counts, strict=True))
        if count
    )
    numbers = "".join(
        f'<text x="{32 + 28 * i}" y="{116 - heights[i]:.1f}" text-anchor="middle">{count}</text>'
        for i, count in enumerate(counts)
        if count
    )
    ticks = "".join(f'<text x="{18 + 28 * i}" y="136" text-anchor="middle">{5 * i}</text>' for i in range(0, 21, 4))
    said = f"median {percent(np.median(values))} %, lowest {percent(values.min())} %, highest {percent(values.max())} %"
    return (
        f"<p>Mean IoU of single images: {said}.</p>"
        f'<svg viewBox="0 0 600 140" role="img" aria-label="Number of images by mean IoU: {said}">'
        f'<line x1="16" y1="120.5" x2="582" y2="120.5"/>{bars}{numbers}{ticks}</svg>'
    )


def _key_of_errors():
    return (
        '<p>In the maps of errors:</p><ul class="legend"><li><span class="swatch right"></span>right (dark)</li>'
        '<li><span class="swatch wrong"></span>wrong (bright)</li>'
        '<li><span class="swatch void"></span>does not count (hatched)</li></ul>'
    )


def _image(item, classes):
    _, scored = item
    prediction, said = scored.prediction, _report.objects_said(scored)
    counts = prediction.confusion_matrix
    accuracy = counts.trace() / counts.sum() if counts.any() else None
    about = {
        "image": "the image",
        "truth": "the truth over the image",
        "prediction": "the prediction over the image",
        "errors": f"where the prediction is right and wrong: {percent(accuracy)} % of the pixels are right",
    }
    views = _report.views(scored, classes)
    figures = "".join(
        f"<figure>{inlined(thumbnail(picture), f'{prediction.key}: {about[name]}', 'JPEG')}"
        f"<figcaption>{name}</figcaption></figure>"
        for name, picture in views.items()
    )
    if said:
        legend = f'<p class="soft">{said[0]}, {said[1]}; coloured one by one</p>'
    else:
        legend = _legend(classes, [k for k in _report.classes_in(prediction) if k < len(classes.names)])
    return (
        f"<article><header><h3>{escape(prediction.key)}</h3><span>mean IoU <b>{percent(scored.iou)} %</b>, pixel "
        f'accuracy {percent(accuracy)} %</span></header><div class="views" style="--views:{len(views)}">{figures}</div>'
        f"{legend}</article>"
    )


def _legend(classes, there):
    chips = "".join(f"<li>{swatch(classes.palette[k])}{escape(classes.names[k])}</li>" for k in there[:_MOST_IN_LEGEND])
    more = f"<li>and {len(there) - _MOST_IN_LEGEND} more</li>" if len(there) > _MOST_IN_LEGEND else ""
    return f'<ul class="legend" aria-label="Classes in the image">{chips}{more}</ul>'


def _facts(report):
    made = report["made"]
    facts = {
        name: report[name]
        for name in ("model", "data", "split", "predictions", "labels", "list", "classes")
        if name in report
    }
    if "model" in report:
        options = report["inference"]
        facts["inference"] = ", ".join(f"{k} {v}" for k, v in options.items()) or "plain: one view, argmax"
    if "objects_by" in report:
        facts["objects by"] = report["objects_by"]
    facts |= {"date": made["date"], "took": f"{made['seconds']} s"}
    facts["versions"] = ", ".join(f"{name} {made[name]}" for name in ("kerasseg", "tensorflow", "keras", "python"))
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(str(value))}</td></tr>' for name, value in facts.items()
    )
    return (
        f'<figure class="table"><table class="facts"><tbody>{rows}</tbody></table></figure>'
        f"<p>To make it again:</p><pre><code>{escape(made['command'])}</code></pre>"
    )
