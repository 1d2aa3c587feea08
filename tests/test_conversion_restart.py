"""Conversions that find faults, or are killed: every fault is told at once, and a rerun completes what was begun."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import convert_cells
import convert_pairs
import numpy as np
import pytest
from PIL import Image

from kerasseg import records
from kerasseg.spec import CollectedDataError, DataError, DatasetSpec

ROOT = Path(__file__).resolve().parent.parent
SPEC = DatasetSpec(name="tiny", class_names=("background", "cat", "dog"))


class Source:
    """Deferred examples of files on disk, and how often each was read."""

    def __init__(self, folder: Path, count: int):
        folder.mkdir(exist_ok=True)
        self.paths = [folder / f"{i}.npy" for i in range(count)]
        rng = np.random.default_rng(0)
        for path in self.paths:
            np.save(path, rng.integers(0, 3, (9, 8)).astype(np.uint8))
        self.read = []
        self.stop_at = None

    def deferred(self, path):
        def make():
            self.read.append(path.stem)
            if path.stem == self.stop_at:
                raise KeyboardInterrupt
            mask = np.load(path)
            return records.Example(path.stem, np.repeat(mask[..., None], 3, 2), mask, source=path.name)

        return records.Deferred(path.stem, (path,), make)

    def write(self, directory, made_with=None, **options):
        self.read.clear()
        items = [self.deferred(path) for path in self.paths]
        options = {"num_shards": 4, "workers": 1, "progress": False, **options}
        return records.write(directory, SPEC, {"train": items}, made_with=made_with, **options)


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "source", 12)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# Faults


def test_all_faults_are_told_at_once(tmp_path, source):
    for i in (1, 4, 5):
        np.save(source.paths[i], np.full((9, 8), 7, np.uint8))
    with pytest.raises(CollectedDataError) as caught:
        source.write(tmp_path / "tiny")
    first, *lines = str(caught.value).splitlines()
    assert first == "3 faults, so nothing was written:"
    assert [line.split(":")[0] for line in lines] == [f"{i} ({i}.npy)" for i in (1, 4, 5)]
    assert all("the mask holds 7 (72 pixels); expected class ids 0 to 2" in line for line in lines)
    assert sorted(source.read, key=int) == [str(i) for i in range(12)]
    assert not (tmp_path / "tiny").exists()
    assert not (tmp_path / "tiny.partial").exists()


def test_a_single_fault_reads_as_ever_and_the_same_one_twice_is_one(tmp_path, source):
    np.save(source.paths[3], np.full((9, 8), 7, np.uint8))
    source.paths.append(source.paths[3])
    with pytest.raises(DataError, match=r"^3 \(3.npy\): the mask holds 7") as caught:
        source.write(tmp_path / "tiny")
    assert not isinstance(caught.value, CollectedDataError)


def test_of_many_faults_twenty_are_told_and_all_kept(tmp_path):
    source = Source(tmp_path / "source", 30)
    for path in source.paths[:26]:
        np.save(path, np.full((9, 8), 9, np.uint8))
    with pytest.raises(CollectedDataError) as caught:
        source.write(tmp_path / "tiny")
    lines = str(caught.value).splitlines()
    assert lines[0] == "26 faults, so nothing was written:"
    assert lines[-1] == "and 6 more"
    assert len(lines) == 22
    assert len(caught.value.faults) == 26


def test_faults_of_all_splits_and_kinds_together(tmp_path):
    image, mask = np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6), np.uint8)
    splits = {
        "train": [
            records.Example("a", image, mask),
            records.Example("b", image),
            records.Example("c", image[..., :1], mask),
        ],
        "val": [records.Example("d", image, mask[:4]), records.Example("e", image, mask)],
    }
    with pytest.raises(CollectedDataError) as caught:
        records.write(tmp_path / "tiny", SPEC, splits, progress=False)
    for fault, message in zip(
        caught.value.faults,
        ("b has no mask, but a has mask", "c: the image has 1 channels", "d: the mask is 6x4"),
        strict=True,
    ):
        assert fault.startswith(message)


def test_a_tool_prints_a_line_for_each_fault(tmp_path, capsys):
    import _cli

    for kind, size in (("images", (9, 8, 3)), ("masks", (9, 8))):
        (tmp_path / kind).mkdir()
        for i in range(5):
            Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "images/0.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (tmp_path / "images/3.png").write_bytes(b"")
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(tmp_path / "masks/4.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    arguments = ["--images", "images", "--masks", "masks", "--classes", "classes.txt", "--output", "out"]
    arguments = [value if value.startswith("--") else str(tmp_path / value) for value in arguments]
    with pytest.raises(SystemExit) as ended:
        _cli.run(convert_pairs.main, arguments)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    lines = said[said.index("error: ") :].splitlines()
    assert lines[0] == "error: 3 faults, so nothing was written:"
    assert [line.startswith("  ") for line in lines[1:]] == [True] * 3
    for line, part in zip(
        lines[1:], ("images/0.png is damaged", "images/3.png is empty", "4.png): the mask is 7x9"), strict=True
    ):
        assert part in line
    assert not (tmp_path / "out").exists()


# Restarting


def test_an_interrupted_run_is_gone_on_with(tmp_path, source, capfd):
    whole = source.write(tmp_path / "whole" / "tiny")
    source.stop_at = "7"  # in the third of four shards of three
    with pytest.raises(KeyboardInterrupt):
        source.write(tmp_path / "tiny", made_with={"a": 1})
    with pytest.raises(DataError, match="dataset.json is missing"):
        DatasetSpec.load(tmp_path / "tiny.partial")
    source.stop_at = None
    written = source.write(tmp_path / "tiny", made_with={"a": 1}, progress=True)
    assert source.read == [str(i) for i in range(6, 12)]
    assert "note: 6 of 12 records of train were finished before and are kept" in capfd.readouterr().err
    assert written == whole
    assert contents(tmp_path / "tiny") == contents(tmp_path / "whole" / "tiny")
    assert not (tmp_path / "tiny.partial").exists()


def interrupted(tmp_path, source):
    source.stop_at = "10"
    with pytest.raises(KeyboardInterrupt):
        source.write(tmp_path / "tiny", made_with={"a": 1})
    source.stop_at = None


CHANGES = {
    "nothing": (lambda source, folder: None, {}, 9),
    "an option": (lambda source, folder: None, {"made_with": {"a": 2}}, 0),
    "no options known": (lambda source, folder: None, {"made_with": None}, 0),
    "the number of shards": (lambda source, folder: None, {"num_shards": 3}, 0),
    "a source file": (lambda source, folder: np.save(source.paths[4], np.zeros((9, 8), np.uint8)), {}, 6),
    "the list": (lambda source, folder: source.paths.pop(4), {}, 3),
    "a shard's bytes": (lambda source, folder: flip(folder / "tiny-train.tfrecord-00001-of-00004"), {}, 6),
    "a shard's length": (lambda source, folder: cut(folder / "tiny-train.tfrecord-00002-of-00004"), {}, 6),
    "a shard is gone": (lambda source, folder: (folder / "tiny-train.tfrecord-00000-of-00004").unlink(), {}, 6),
    "a torn line of the journal": (lambda source, folder: cut(folder / "conversion.journal"), {}, 6),
    "a foreign file": (lambda source, folder: (folder / "x" / "y").mkdir(parents=True), {}, 9),
}  # fmt: skip


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_is_still_good_is_kept(tmp_path, source, change):
    function, options, kept = CHANGES[change]
    interrupted(tmp_path, source)
    function(source, tmp_path / "tiny.partial")
    source.write(tmp_path / "tiny", **{"made_with": {"a": 1}, **options})
    assert len(source.paths) - len(source.read) == kept
    done = contents(tmp_path / "tiny")
    source.write(tmp_path / "tiny", overwrite=True, num_shards=options.get("num_shards", 4))
    assert contents(tmp_path / "tiny") == done


def test_a_change_of_the_data_sets_own_description_starts_over(tmp_path, source):
    interrupted(tmp_path, source)
    items = [source.deferred(path) for path in source.paths]
    other = DatasetSpec(name="tiny", class_names=("background", "cat", "cow"))
    source.read.clear()
    records.write(tmp_path / "tiny", other, {"train": items}, made_with={"a": 1}, num_shards=4, progress=False)
    assert len(source.read) == 12


def test_faults_in_a_rerun_remove_what_was_kept(tmp_path, source):
    interrupted(tmp_path, source)
    np.save(source.paths[11], np.full((9, 8), 7, np.uint8))
    with pytest.raises(DataError, match=r"^11 \(11.npy\): the mask holds 7"):
        source.write(tmp_path / "tiny", made_with={"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("layout", ["isbi2012", "dsb2018", "pairs", "ctc"])
def test_every_layout_of_cells_names_its_files(tmp_path, layout, monkeypatch):
    """A conversion of cells that is stopped is gone on with, and notices a file that changed."""
    rng = np.random.default_rng(0)
    root = tmp_path / "cells"
    names = {
        "isbi2012": ("train/image/{}.png", "train/label/{}.png"),
        "dsb2018": ("c{0}/images/c{0}.png", "c{}/masks/a.png"),
        "pairs": ("images/{}.png", "masks/{}.png"),
        "ctc": ("01/t{:03d}.tif", "01_GT/SEG/man_seg{:03d}.tif"),
    }[layout]
    for i in range(8):
        for name, values in zip(names, (rng.integers(0, 256, (9, 8)), (rng.random((9, 8)) < 0.5) * 255), strict=True):
            path = root / name.format(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    arguments = ["--layout", layout, "--input", str(root), "--output", str(tmp_path / "out"), "--val-share", "0"]
    arguments += ["--workers", "1"]
    read, real = [], records.Deferred.__call__

    def call(self):
        read.append(self.key)
        if len(read) == stop_at:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(records.Deferred, "__call__", call)
    stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        convert_cells.main(arguments)
    changed = root / names[1].format(2)  # in the second of four shards of two
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(changed)
    read.clear()
    stop_at = None
    convert_cells.main(arguments)
    assert len(read) == 4


# Converts in forks of itself, so that a start costs little, and kills these.
DRIVER = textwrap.dedent(
    """
    import json, os, random, shutil, signal, sys, time
    from pathlib import Path
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    sys.path[:0] = sys.argv[1:3]
    import convert_voc, _convert, _voc
    from kerasseg import records
    from kerasseg.spec import DataError, DatasetSpec

    voc, root, every = Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
    out, partial = root / "out", root / "out.partial"
    maker = _voc.maker
    EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")

    def convert(die_at=None, slow=0):
        child = os.fork()
        if child:
            return child
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1), os.dup2(null, 2)
            if slow:
                def slowly(*arguments):
                    item = maker(*arguments)
                    return records.Deferred(item.key, item.files, lambda: time.sleep(slow) or item.make())
                _voc.maker = slowly
            seen = []
            def hook(event, arguments):
                if event in EVENTS and any(str(root) in str(argument) for argument in arguments):
                    seen.append(event)
                    if len(seen) == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            convert_voc.main(["--voc", str(voc), "--output", str(out), "--overwrite"])
        except BaseException:
            os._exit(1)
        os._exit(0)

    def killed(child):
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    def whole(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def opens(folder):
        try:
            DatasetSpec.load(folder)
            return True
        except DataError:
            return False

    def reset(old):
        for folder in (out, partial):
            shutil.rmtree(folder, ignore_errors=True)
        if old:
            shutil.copytree(root / "old", out)

    def check():
        # What opens is the old data set, or the new one: whole in any case.
        assert not opens(partial)
        if opens(out):
            assert {name: data for name, data in whole(out).items() if name != "conversion.journal"} == expected
            return True
        return False

    def finish():
        assert not killed(convert())
        assert whole(out) == expected
        assert not partial.exists()

    def notes():
        path = partial / "conversion.journal"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    assert not killed(convert())
    expected = whole(out)
    out.rename(root / "old")
    result = {"random kills": 0, "most shards kept": 0, "steps": 0}

    # At random moments, again and again, each run going on from where the last one came to.
    random.seed(0)
    while result["random kills"] < 8:
        child = convert(slow=0.01)
        time.sleep(random.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        result["random kills"] += killed(child)
        result["most shards kept"] = max(result["most shards kept"], notes())
        if check():
            finish()
            reset(old=False)
    finish()

    # At each step (or each `every`th) that touches a file, with and without an old data set in the place.
    for old in (False, True):
        for step in range(1, 10**6, every):
            reset(old)
            if not killed(convert(step)):
                break
            check()
            if step % 2:  # and once more
                killed(convert(step // 2 + 3))
                check()
            finish()
            result["steps"] += 1
    print(json.dumps(result))
    """
)


@pytest.fixture
def voc(tmp_path):
    root, rng = tmp_path / "VOC2012", np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2007_{i:06d}" for i in range(40)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        mask = Image.fromarray(rng.choice([0, 1, 255], (30, 40)).astype(np.uint8), "P")
        mask.putpalette(list(range(256)) * 3)
        mask.save(root / f"SegmentationClass/{name}.png")
    for split, part in (("train", names[:30]), ("val", names[30:])):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(part))
    return root


@pytest.mark.parametrize("every", [pytest.param(3, marks=pytest.mark.slow), 47])
def test_killed_at_any_moment_nothing_opens_and_a_rerun_completes_it(tmp_path, voc, every):
    (tmp_path / "root").mkdir()
    command = [sys.executable, "-c", DRIVER, ROOT / "tools", ROOT, voc, tmp_path / "root", every]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["random kills"] == 8
    assert result["most shards kept"] >= 3
    assert result["steps"] >= 60 // every
