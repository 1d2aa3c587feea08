"""The page of an evaluation: whole in itself, escaped, readable by machines and people, and shown by a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import _page_parts
import evaluate
import numpy as np
import pytest
from PIL import Image

NASTY = ['<b>sky</b> & "sea"', "road's <script>alert(1)</script>", "tree", "nowhere"]


class Page(HTMLParser):
    """What a page holds: tags with their attributes, and its text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(source)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "line", "rect") and (tag, "/") not in self.tags:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in ("rect", "line"):
            assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def folder(root, names, count=6, size=(45, 60), instances=False, images=True):
    """Writes masks of all classes but the last, predictions that are often right, and images; returns the arguments."""
    rng = np.random.default_rng(0)
    for kind in ("labels", "predictions", "images"):
        (root / kind).mkdir(parents=True)
    for number in range(count):
        truth = rng.integers(0, max(len(names) - 1, 1), (size[0] // 5, size[1] // 5)).repeat(5, 0).repeat(5, 1)
        wrong = rng.random(truth.shape) < (number + 1) / 10
        predicted = np.where(wrong, np.roll(truth, 3, 1), truth)
        truth[:4] = 0 if instances else 255
        kind = np.uint16 if instances else np.uint8
        Image.fromarray(truth.astype(kind)).save(root / "labels" / f"img {number}&.png")
        Image.fromarray(predicted.astype(kind)).save(root / "predictions" / f"img {number}&.png")
        image = rng.integers(0, 255, (*truth.shape, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"img {number}&.png")
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    given = [("--predictions", root / "predictions"), ("--labels", root / "labels")]
    given += [("--images", root / "images")] if images else []
    given += [("--output", root / "out"), ("--instances",) if instances else ("--classes", root / "classes.txt")]
    return [str(part) for pair in given for part in pair]


def page_of(root, *arguments, **options):
    evaluate.main([*folder(root, **options), *arguments])
    return (root / "out" / "report.html").read_text(encoding="utf-8")


def check_it_is_whole(source):
    """Nothing is fetched, nothing runs, pictures and tables say what they are; returns the parsed page."""
    page = Page(source)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    policy = page.all("meta")[1]["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes[name][:80])
    assert not re.search(r"url\(|@import", source)
    for picture in page.all("img"):
        assert picture["alt"].strip()
        assert int(picture["width"])
        assert int(picture["height"])
    assert len({attributes["id"] for _, attributes in page.tags if "id" in attributes}) == source.count(' id="')
    targets = {attributes["href"][1:] for attributes in page.all("a")}
    assert targets <= {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    return page


def test_names_are_escaped_and_numbers_are_those_of_the_report(tmp_path):
    source = page_of(tmp_path, "--pictures", "2", names=NASTY)
    page = check_it_is_whole(source)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "<b>sky" not in source
    assert "alert(1)</script>" not in source
    for name in [*NASTY, "img 5&"]:
        assert name in page.text
    assert report["absent_classes"] == ["nowhere"]
    shown = [report["mean_iou"], report["pixel_accuracy"], report["mean_boundary_f1"], report["per_image"]["mean_iou"]]
    for value in [*shown, *report["per_class_iou"].values(), *report["per_class_boundary_f1"].values()]:
        assert f"{100 * value:.1f}" in page.text
    assert "1 in neither truth nor prediction" in page.text
    assert report["made"]["command"] in page.text
    assert len(page.all("article")) == 4  # two of the worst, two of the best, with four views each
    assert len(page.all("img")) == 4 * 4 + 1
    order = re.findall(r"img (\d)&: the image", "".join(picture["alt"] for picture in page.all("img")))
    assert order == ["5", "4", "0", "1"]


def test_150_classes_no_pictures_one_image(tmp_path, capsys):
    source = page_of(
        tmp_path, "--pictures", "0", names=[f"thing number {k}" for k in range(150)], count=1, size=(150, 200)
    )
    page = check_it_is_whole(source)
    assert len(source) < 1_500_000
    assert len(page.all("article")) == 0
    assert sum(attributes.get("scope") == "row" for attributes in page.all("th")) >= 150
    printed = capsys.readouterr().out
    assert "(the 20 worst of 150 classes)" in printed
    assert len(printed.splitlines()) < 40


def test_objects_have_a_table(tmp_path):
    page = check_it_is_whole(page_of(tmp_path, "--pictures", "1", names="abcd", count=3, instances=True, images=False))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Average precision, TP / (TP + FP + FN)" in page.text
    assert page.text.count("2 true objects, 2 found; coloured one by one") == 2
    views = [picture["alt"].partition(": ")[2].split(" ")[1] for picture in page.all("img")[1:]]
    assert views == ["truth", "prediction", "the"] * 2  # "where the prediction is right", and no image
    for threshold, value in report["mean_average_precision_by_iou"].items():
        assert f"{threshold}{100 * value:.1f}" in page.text


# What a browser is asked about the page: put into a copy that lets scripts run.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = JSON.stringify({
    images: images.length,
    broken: images.filter(i => !i.complete || !i.naturalWidth).length,
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    fetched: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
    heights: [...document.querySelectorAll("section")].map(s => s.offsetHeight),
  });
});</script>"""


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here to open the page with")
    return found


def browse(chromium, page, profile, *arguments):
    quiet = ("quic", "gpu", "background-networking", "component-update", "sync", "dev-shm-usage")
    command = [chromium, "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=5000", *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_noise_goes_into_the_page():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    source = _page_parts.inlined(_page_parts.thumbnail(noise), "noise", "JPEG")
    encoded = base64.b64decode(re.search('base64,([^"]+)', source)[1])
    with Image.open(io.BytesIO(encoded)) as picture:
        assert picture.size == (400, 300)
        assert np.abs(np.asarray(picture).astype(int) - noise).mean() < 30


def test_a_browser_shows_the_page(tmp_path, chromium):
    source = page_of(tmp_path, "--pictures", "1", names=NASTY, count=3)
    copy = tmp_path / "probed.html"
    copy.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', PROBE, source), encoding="utf-8")
    for width in (500, 1280):  # 500 is the narrowest that a headless window gets
        result = browse(chromium, copy, tmp_path / f"profile{width}", f"--window-size={width},900", "--dump-dom")
        title = re.search(r"<title>(\{.*?\})</title>", result.stdout)
        assert title, result.stdout[-500:] + result.stderr[-2000:]
        found = json.loads(title[1])
        assert found["images"] == 2 * 4 + 1
        assert (found["broken"], found["fetched"], found["wider"]) == (0, 0, 0)
        assert min(found["heights"]) > 100
    picture = tmp_path / "page.png"
    browse(
        chromium, tmp_path / "out" / "report.html", tmp_path / "profile", "--window-size=1280,2000",
        f"--screenshot={picture}",
    )  # fmt: skip
    with Image.open(picture) as shown:
        assert shown.size == (1280, 2000)
        colours = shown.convert("RGB").getcolors(2**24)
    assert len(colours) > 500
    assert max(count for count, _ in colours) < 0.8 * 1280 * 2000
