"""MATLAB's files: what scipy reads of them, and no crash where they are damaged."""

import struct

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from kerasseg import records
from kerasseg.spec import DataError


def agree(ours, theirs):
    """Compares with scipy's arrays of structures, cells and texts."""
    if theirs.dtype.names:
        rows = [ours] if theirs.size == 1 else ours
        for row, expected in zip(rows, theirs.ravel(order="F"), strict=True):
            assert list(row) == list(theirs.dtype.names)
            for name, value in row.items():
                agree(value, expected[name])
    elif theirs.dtype == object:
        assert ours.shape == theirs.shape
        for value, expected in zip(ours.ravel(), theirs.ravel(), strict=True):
            agree(value, expected)
    elif theirs.dtype.kind == "U":
        assert ours.tolist() == theirs.tolist()
    else:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_read_is_what_scipy_reads(tmp_path, compressed):
    rng = np.random.default_rng(0)
    cells = np.empty((2, 3), object)
    for i in np.ndindex(2, 3):
        cells[i] = rng.integers(0, 9, (i[1], 4))
    content = {f"a_{dtype}": (rng.random((3, 5)) * 100).astype(dtype) for dtype in ("u1", "i2", "u4", "i8", "f4", "f8")}
    content |= {
        "cells": cells,
        "text": "a person",
        "volume": rng.integers(0, 255, (3, 4, 5)).astype(np.uint8),
        "nested": {"inner": {"n": 7, "names": np.array(["cat", "dog"], object)}, "empty": np.zeros((0, 3))},
        "several": np.array([(1, "x"), (2, "y")], dtype=[("n", "O"), ("s", "O")]),
    }
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, content, do_compression=compressed)
    ours, theirs = records.read_mat(path), scipy.io.loadmat(path, chars_as_strings=True)
    assert set(ours) == set(content)
    for name, value in ours.items():
        agree(value, theirs[name])


def test_values_of_other_kinds_are_none(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"s": scipy.sparse.eye(4).tocsc(), "c": np.ones((2, 2)) * 1j, "n": 3})
    assert {name: value is None for name, value in records.read_mat(path).items()} == {"s": True, "c": True, "n": False}


def test_the_other_order_of_bytes(tmp_path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    labels = np.arange(6, dtype=np.uint8)
    flags, shape = element(6, struct.pack(">II", 9, 0)), element(5, struct.pack(">ii", 2, 3))
    parts = [flags, shape, element(1, b"abcdefgh"), element(2, labels.tobytes())]
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, b"".join(parts)))
    np.testing.assert_array_equal(records.read_mat(path)["abcdefgh"], scipy.io.loadmat(path)["abcdefgh"])


def test_files_of_the_boundaries_data_set(real_data):
    paths = sorted((real_data / "sbd").rglob("*.mat"))
    assert len(paths) == 28
    for path in paths:
        ours, theirs = records.read_mat(path), scipy.io.loadmat(path)
        for name, value in ours.items():
            for field in ("Segmentation", "Categories", "CategoriesPresent"):
                if field in value:
                    agree(value[field], theirs[name][0, 0][field])


def test_what_is_none_of_them_is_refused(tmp_path):
    path = tmp_path / "a.mat"

    def refused(message, field="GTcls"):
        with pytest.raises(DataError, match=message):
            records.read_sbd(path, field)

    refused("a.mat is missing")
    path.write_bytes(b"hello" * 50)
    refused("a.mat is damaged or cut short .no header")
    path.write_bytes(b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(800))
    refused("a.mat is a MATLAB 7.3 file, which is not read; save it with -v7")
    scipy.io.savemat(path, {"GTcls": {"Boundaries": 1}})
    refused("a.mat has no GTcls.Segmentation")
    scipy.io.savemat(path, {"GTcls": {"Segmentation": "x"}})
    refused("GTcls.Segmentation is no array of numbers")
    for values in (np.full((3, 3), 256), np.full((3, 3), -1), np.full((3, 3), 0.5), np.full((3, 3), np.nan)):
        scipy.io.savemat(path, {"GTcls": {"Segmentation": values}})
        refused(r"GTcls.Segmentation holds values from \S+ to \S+; expected whole numbers from 0 to 255")
    scipy.io.savemat(path, {"GTinst": {"Segmentation": np.full((3, 3), 300.0)}})
    assert (records.read_sbd(path, "GTinst") == 300).all()
    deep = {"a": 1}
    for _ in range(20):
        deep = {"a": deep}
    scipy.io.savemat(path, {"GTcls": deep})
    refused("structures more than 16 deep")
