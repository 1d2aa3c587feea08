"""Shared by all tests: the optional test data, how a tool is called, and what keeps a run quick and clean."""

import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # A process per core; several threads in each would only wait for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

TEST_DATA = Path(os.environ.get("KERASSEG_TEST_DATA", ROOT.parent / "shared"))
"""Optional folder with `data/` (real images) and `oracle/` (reference values); not part of the project."""


def pytest_addoption(parser):
    parser.addoption(
        "--share", default="1/1", metavar="K/N", help="run the K-th of N parts of the tests, dealt by name"
    )


def pytest_collection_modifyitems(config, items):
    number, of = map(int, config.getoption("share").split("/"))
    if not 1 <= number <= of:
        raise pytest.UsageError(f"--share expects K/N with K from 1 to N, received {config.getoption('share')}")
    share = [item for item in items if zlib.crc32(item.nodeid.encode()) % of == number - 1]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(share)])
    items[:] = share


def pytest_configure(config):
    """Gives a run a temporary folder of its own, for all of its processes, so that nothing is left behind.

    TensorFlow writes a file for each function that it converts, and processes that are killed leave theirs.
    """
    if hasattr(config, "workerinput"):
        return
    config.kerasseg_temporary = folder = tempfile.mkdtemp(prefix="kerasseg-tests-")
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{folder}/hypothesis"
    if config.option.basetemp is None:
        config.option.basetemp = f"{folder}/pytest"


def pytest_unconfigure(config):
    shutil.rmtree(getattr(config, "kerasseg_temporary", ""), ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Keeps what imports made out of the garbage collector: a pass over it takes .2 s, as does clearing Keras."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; tests that need it are skipped where it is missing."""
    return _folder("data")


@pytest.fixture(scope="session")
def oracle() -> Path:
    """Folder of values computed with the original DeepLab-v3 code; tests are skipped where it is missing."""
    return _folder("oracle")


def _folder(name: str) -> Path:
    folder = TEST_DATA / name
    if not folder.is_dir():
        pytest.skip(f"optional test data not found: {folder} (set KERASSEG_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def zero_weights():
    """Returns a context in which layers start with zeros: drawing is most of the time that a wide network takes."""
    import tensorflow as tf
    from tensorflow import keras

    def zeros(self, shape, dtype=None, **kwargs):
        return tf.zeros(shape, dtype or "float32")

    @contextlib.contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            for kind in ("VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal"):
                patch.setattr(getattr(keras.initializers, kind), "__call__", zeros)
            yield

    return context


@pytest.fixture
def undrawn(request, monkeypatch):
    """Trainings draw no pictures, which have tests of their own; a test that takes the fixture `drawn` has them."""
    if "drawn" not in request.fixturenames:
        from kerasseg.training._report import Report

        for name in ("_draw_all", "_draw_samples"):
            monkeypatch.setattr(Report, name, lambda *arguments: None)


@pytest.fixture
def drawn():
    """See `undrawn`."""


@pytest.fixture
def run_tool():
    """Returns a function that runs a tool in a process of its own: `run_tool("convert_voc.py", "--voc", path)`."""

    def run(name, *arguments, check=True, timeout_s=500, **kwargs):
        command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, **kwargs)
        if check and result.returncode:
            pytest.fail(f"{name} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    return run
