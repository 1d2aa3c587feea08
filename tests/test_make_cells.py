"""The generator of cell data: layout, determinism, and that its pictures are worth training on."""

import cv2
import make_cells
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from kerasseg.spec import DataError


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "cells"
    return make_cells.make_cells(folder, num_images=6, size=160, seed=3, progress=False)


def frames(folder):
    """Yields (image, instances) as Pillow, an independent reader, sees the files."""
    for path in sorted((folder / "01").iterdir()):
        label = folder / "01_GT" / "SEG" / f"man_seg{path.stem[1:]}.tif"
        yield np.array(Image.open(path)), np.array(Image.open(label))


def touching_pairs(instances):
    pairs = set()
    for a, b in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        pairs |= {tuple(sorted(p)) for p in zip(a[meet].tolist(), b[meet].tolist(), strict=True)}
    return pairs


def test_layout_is_that_of_the_challenge(cells):
    assert sorted(p.name for p in cells.iterdir()) == ["01", "01_GT", "SOURCE.txt"]
    assert [p.name for p in sorted((cells / "01").iterdir())] == [f"t{i:03}.tif" for i in range(6)]
    assert [p.name for p in sorted((cells / "01_GT/SEG").iterdir())] == [f"man_seg{i:03}.tif" for i in range(6)]
    assert not cells.with_name("cells.partial").exists()
    for image, instances in frames(cells):
        assert image.shape == instances.shape == (160, 160)
        assert image.dtype == np.uint8
        assert instances.dtype == np.uint16


def test_labels_are_whole_cells_of_varied_size_many_of_them_touching(cells):
    areas, touching = [], 0
    for _, instances in frames(cells):
        count = int(instances.max())
        assert set(np.unique(instances)) == set(range(count + 1)), "numbered without a gap, with background"
        for cell in range(1, count + 1):
            assert ndimage.label(instances == cell)[1] == 1, "a cell is one piece"
            areas.append(int((instances == cell).sum()))
        touching += len(touching_pairs(instances))
    assert touching >= 6
    assert max(areas) > 4 * min(areas) >= 4 * 60
    assert 0.25 < np.mean([(instances > 0).mean() for _, instances in frames(cells)]) < 0.75


def test_no_threshold_finds_the_cells(cells):
    """Neither the grey value (blurred, either side of Otsu's threshold) nor the local contrast does."""
    for measure in (
        lambda x: cv2.GaussianBlur(x, (0, 0), 2),
        lambda x: ndimage.generic_gradient_magnitude(x, ndimage.sobel),
    ):
        scores = []
        for image, instances in frames(cells):
            value, cell = measure(image.astype(np.float32)), instances > 0
            above = value > threshold_otsu(value)
            scores.append(max(_miou(cell, above), _miou(cell, ~above)))
        assert np.mean(scores) < 0.6


def _miou(truth, found):
    return np.mean([(truth & found).sum() / (truth | found).sum(), (~truth & ~found).sum() / (~truth | ~found).sum()])


def test_same_seed_same_files_and_a_frame_depends_on_no_other(cells, tmp_path):
    again = make_cells.make_cells(tmp_path / "again", num_images=2, size=160, seed=3, progress=False)
    other = make_cells.make_cells(tmp_path / "other", num_images=2, size=160, seed=4, progress=False)
    for name in ("01/t001.tif", "01_GT/SEG/man_seg001.tif"):
        assert (again / name).read_bytes() == (cells / name).read_bytes()
        assert (other / name).read_bytes() != (cells / name).read_bytes()


@pytest.mark.parametrize("size", [32, 61, 320])
def test_any_size_has_cells(tmp_path, size):
    for _, instances in frames(make_cells.make_cells(tmp_path / "x", num_images=2, size=size, progress=False)):
        assert instances.shape == (size, size)
        assert instances.max() >= 1


def test_existing_folders_are_refused_and_only_own_ones_replaced(tmp_path):
    mine = tmp_path / "mine"
    make_cells.main(["--output", str(mine), "--num-images", "2", "--size", "40"])
    with pytest.raises(DataError, match="exists; choose another folder or replace it with --overwrite"):
        make_cells.main(["--output", str(mine), "--num-images", "1", "--size", "40"])
    make_cells.main(["--output", str(mine), "--num-images", "1", "--size", "40", "--overwrite"])
    assert len(list((mine / "01").iterdir())) == 1

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "precious").write_text("x")
    with pytest.raises(DataError, match="was not made by this tool"):
        make_cells.main(["--output", str(foreign), "--overwrite"])
    assert (foreign / "precious").exists()


def test_arguments_out_of_range(tmp_path, capsys):
    with pytest.raises(ValueError, match="at least 32 .* received 4, 8 and 0"):
        make_cells.make_cells(tmp_path / "x", num_images=4, size=8)
    with pytest.raises(SystemExit):
        make_cells.main(["--output", str(tmp_path / "x"), "--num-images", "0"])
    assert "--num-images: expected 1 to 10000, received 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_runs_as_a_tool(run_tool, tmp_path):
    result = run_tool("make_cells.py", "--output", tmp_path / "cells", "--num-images", 1, "--size", 32)
    assert result.stdout.strip().endswith(str(tmp_path / "cells"))
    failed = run_tool("make_cells.py", "--output", tmp_path / "cells", check=False)
    assert failed.returncode == 1
    assert failed.stderr.strip().startswith("error: ")
    assert len(failed.stderr.strip().splitlines()) == 1
