"""The line that says what TensorFlow runs on."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from conftest import ROOT

import kerasseg
from kerasseg.__main__ import main
from kerasseg.inspection import runtime


def test_the_line_names_versions_and_kernels(capsys):
    line = runtime()
    for part in (f"kerasseg {kerasseg.__version__}", f"tensorflow {tf.__version__}", "cores", "oneDNN o"):
        assert part in line
    assert "\n" not in line
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == line + "\n"
    main([])
    assert "--version" in capsys.readouterr().out


def test_as_a_process_without_onednn():
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "kerasseg", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr
    assert "; oneDNN off (TF_ENABLE_ONEDNN_OPTS=0)" in result.stdout
