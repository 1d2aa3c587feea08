"""One source under Keras 3, tf_keras and Keras 2.15: no branch among them, and weights that go from each to the others.

The others are processes of `.venv` (`make test`, `make test-tf-keras`) and `.venv-addons` (`make test-addons`);
KERASSEG_PYTHON and KERASSEG_ADDONS_PYTHON name other interpreters.
"""

import ast
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BESIDE_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None

# No branches


def asks_for_keras(node):
    """Whether a condition, or what is compared, looks at which Keras or TensorFlow this is."""
    for part in ast.walk(node):
        match part:
            case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[ast.Name(id="keras" | "tf"), *_]):
                return True
            case ast.Attribute(attr="__version__" | "VERSION" | "version", value=ast.Name(id="keras" | "tf")):
                return True
            case ast.Call(func=ast.Attribute(attr="version"), args=[ast.Constant(value="keras" | "tensorflow"), *_]):
                return True
            case ast.Call(func=ast.Name(id="versions")):
                return True
    return False


def branches(source):
    """Yields the lines of conditions that ask which Keras or TensorFlow this is."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                if asks_for_keras(test):
                    yield node.lineno
            case ast.BoolOp() | ast.Compare() if asks_for_keras(node):
                yield node.lineno
            case ast.Call(func=ast.Name(id="hasattr")) if asks_for_keras(node):
                yield node.lineno


def test_the_package_does_not_ask_which_keras_it_is():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "kerasseg").rglob("*.py"))
        for line in branches(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        'x = 1 if hasattr(keras, "ops") else 2',
        'new = hasattr(keras, "ops")',
        'if keras.__version__.startswith("3"): pass',
        'new = tf.__version__ >= "2.16"',
        'if importlib.metadata.version("keras") > "3": pass',
        'if versions().get("keras", "2").startswith("2"): pass',
    ],
)
def test_branches_are_found(source):
    assert list(branches(source))
    assert not list(branches('found = {"tensorflow": tf.__version__}'))


# Weights


def interpreters():
    """Returns {name: (command, environment)} of each of the three Kerases, None where it is not installed."""
    default = os.environ.get("KERASSEG_PYTHON", ROOT / ".venv" / "bin" / "python")
    addons = os.environ.get("KERASSEG_ADDONS_PYTHON", ROOT / ".venv-addons" / "bin" / "python")
    default, addons = (default, sys.executable) if BESIDE_ADDONS else (sys.executable, addons)
    has_tf_keras = "import importlib.util as u, sys; sys.exit(u.find_spec('tf_keras') is None)"

    def there(python, check="pass"):
        return Path(python).exists() and not subprocess.run([python, "-c", check], check=False).returncode

    return {
        "keras_3": (default, {}) if there(default) else None,
        "tf_keras": (default, {"TF_USE_LEGACY_KERAS": "1"}) if there(default, has_tf_keras) else None,
        "keras_2_15": (addons, {}) if there(addons) else None,
    }


KERASES = ("keras_3", "tf_keras", "keras_2_15")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found, {name: (its versions, {other: differences})}."""
    folder = tmp_path_factory.mktemp("weights")
    there = {name: one for name, one in interpreters().items() if one}
    if len(there) < 2:
        return {}
    processes = {}
    for name, (python, environment) in there.items():
        others = [other for other in there if other != name]
        kept = {k: v for k, v in os.environ.items() if k not in ("TF_USE_LEGACY_KERAS", "TF_CONFIG")}
        processes[name] = subprocess.Popen(
            [str(python), str(ROOT / "tests" / "_three_kerases.py"), str(folder), name, *others],
            env={**kept, **environment, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        for name, process in processes.items():
            _, errors = process.communicate(timeout=400)
            if process.returncode:
                pytest.fail(f"{name} ended with {process.returncode}: {errors[-3000:]}")
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in processes}


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(KERASES, 2)))
def test_weights_saved_by_one_load_into_the_other(found, one, other):
    for name in (one, other):
        if name not in found:
            pytest.skip(f"{name} is not installed: make test-{'addons' if name == 'keras_2_15' else 'tf-keras'}")
    (version,) = found[other]["keras"].items()
    assert version[0] == ("tf_keras" if other == "tf_keras" else "keras")
    assert version[1].startswith({"keras_3": "3.", "tf_keras": "2.", "keras_2_15": "2.15."}[other])
    differences = found[other]["differences"][one]
    assert len(differences) == 4
    for network, by_file in differences.items():
        size = max(1.0, by_file.pop("size of logits"))
        assert by_file.keys() == {".keras", ".h5"}
        for kind, difference in by_file.items():
            assert difference is not None, f"{network}{kind}: not every variable was loaded"
            assert difference < 1e-5 * size, f"{network}{kind}"
