"""The import layers: each module may import only from layers below its own, never upwards and never sideways."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each subpackage may import of the others. The columns of one layer that do not know each other are kept
# apart here as well: models know nothing of data, data nothing of models, running names neither.
ALLOWED = {
    "_version": set(),
    "_opencv": set(),
    "spec": set(),
    "_cluster": {"spec"},
    "_predict_messages": set(),
    "layers": {"spec"},
    "losses": {"spec"},
    "metrics": {"spec"},
    "postprocess": {"spec"},
    "records": {"spec", "_opencv"},
    "augment": {"spec", "_opencv"},
    "backbones": {"spec", "layers"},
    "pipeline": {"spec", "records", "augment"},
    "models": {"spec", "layers", "backbones"},
    "weights": {"spec", "layers", "backbones"},
    "training": {"spec", "layers", "losses", "metrics", "postprocess", "_version", "_cluster"},
    "inspection": {"layers", "_version"},
    "__main__": {"inspection"},
    "inference": {"spec", "_opencv", "layers", "metrics", "postprocess"},
    "export": {"spec", "layers", "metrics", "_version", "_predict_messages"},
    "client": {"spec", "_opencv", "_predict_messages"},
    "recipes": {"spec", "layers", "losses", "metrics", "postprocess", "records", "augment", "backbones", "pipeline",
                "models", "weights", "training", "inference", "export", "_cluster"},
}  # fmt: skip
NO_TENSORFLOW = ("spec", "client", "_cluster", "_predict_messages")


def modules():
    return sorted((ROOT / "kerasseg").rglob("*.py"))


def subpackage(path: Path) -> str:
    return path.relative_to(ROOT / "kerasseg").parts[0].removesuffix(".py")


def imports(path: Path):
    """Yields (line, dotted name) of every import, those inside functions too; relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1] if path.is_relative_to(ROOT) else ("kerasseg",)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def faults(path: Path, layer: str):
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] in ("tools", "tests", "benchmarks") or parts[0].startswith("convert_"):
            yield f"{path.name}:{line} imports {name}, which lies above the package"
        if parts[0] != "kerasseg" or len(parts) < 2 or parts[1] == "__version__":
            continue
        if parts[1] != layer and parts[1] not in ALLOWED[layer]:
            yield f"{path.name}:{line} ({layer}) imports kerasseg.{parts[1]}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_strictly_down(path):
    layer = subpackage(path)
    if layer == "__init__":
        assert {name for _, name in imports(path)} == {"importlib", "kerasseg._version.__version__"}
        return
    assert layer in ALLOWED, f"kerasseg/{layer} has no place in the table of layers"
    assert not list(faults(path, layer))


def test_the_table_itself_has_no_cycle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {name for name, below in ALLOWED.items() if name not in done and below <= done}
        assert ready, f"cycle among {set(ALLOWED) - done}"
        done |= ready


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda p: p.name)
def test_tools_do_not_import_each_other(path):
    """Only the private `_*.py` modules of tools/ are shared, and demo.py, which runs the others."""
    siblings = {p.stem for p in path.parent.glob("*.py") if not p.stem.startswith("_")}
    found = {name.split(".")[0] for _, name in imports(path)} & siblings
    assert not found or path.stem == "demo", f"{path.name} imports {found}"


@pytest.mark.parametrize(
    ("code", "layer", "fault"),
    [
        ("from kerasseg.models import unet", "layers", "imports kerasseg.models"),
        ("def f():\n    import kerasseg.training", "pipeline", "imports kerasseg.training"),
        ("from kerasseg import metrics", "losses", "imports kerasseg.metrics"),
        ("from . import records", "augment", "imports kerasseg.records"),
        ("import tools.train", "training", "which lies above the package"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, code, layer, fault):
    path = tmp_path / "module.py"
    path.write_text(code)
    assert fault in " ".join(faults(path, layer))


@pytest.mark.parametrize("module", ["kerasseg", *(f"kerasseg.{name}" for name in NO_TENSORFLOW)])
def test_light_imports_load_no_tensorflow(module):
    code = f"import sys, {module}; print([m for m in ('tensorflow', 'keras', 'cv2') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_no_tool_waits_for_tensorflow_or_opencv_before_its_help():
    """All in one process; what one of them imports, the next finds there, so the first offence shows."""
    code = """if True:
        import contextlib, io, runpy, sys
        for tool in sys.argv[1:]:
            sys.argv = [tool, "--help"]
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
                runpy.run_path(tool, run_name="__main__")
            heavy = {"tensorflow", "keras", "cv2", "scipy", "matplotlib", "skimage"} & set(sys.modules)
            if heavy or "usage:" not in text.getvalue():
                raise RuntimeError(f"{tool} {heavy} {text.getvalue()[:99]}")
    """
    tools = [str(path) for path in sorted((ROOT / "tools").glob("*.py")) if not path.name.startswith("_")]
    command = [sys.executable, "-c", code, *tools]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    )
    assert result.returncode == 0, result.stderr
    assert len(tools) > 10
