# `make demo` and `make test` work on a fresh machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
STAMP = $(VENV)/.installed
PYTEST = $(RUN) -m pytest
# A process per core: a single one grows to 5 GB and slows down. The tests of a file stay together.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile
# Test files in place of all: make test TESTS="tests/test_layers.py tests/test_losses.py". Of test-tf-keras and test-addons
# also MARK= for the slow tests as well. Of test-slow, SHARE=2/3 for the second third of them.
TESTS ?=
MARK ?= not slow
SHARE ?= 1/1
# tensorflow-addons imports only beside Keras 2 as TensorFlow 2.15 has it, which wants an environment of its own.
ADDONS_PYTHON ?= $(PYTHON)
ADDONS_VENV ?= .venv-addons

.PHONY: setup setup-addons demo test test-slow test-tf-keras test-addons agreement torch onnx lint bench clean

comma := ,
# An environment with the package as it lies here: $(call install,folder,constraints,extras)
define install
	@echo "Installing into $(1) (TensorFlow is large: a few minutes)"
	@$(1)/bin/pip install --quiet --disable-pip-version-check --constraint $(2) setuptools wheel
	@$(1)/bin/pip install --quiet --disable-pip-version-check --constraint $(2) --no-build-isolation --editable ".[$(3)]"
	@# opencv-python needs libGL, which servers lack; the headless build is the same library without windows.
	@$(1)/bin/python -c "import cv2" 2>/dev/null || { \
		$(1)/bin/pip uninstall --quiet --yes opencv-python; \
		$(1)/bin/pip install --quiet --disable-pip-version-check --constraint $(2) opencv-python-headless; }
endef

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "Python >= 3.10 is needed, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),constraints.txt,test)
	@touch $@

demo: setup
	@$(RUN) tools/demo.py

test: setup
	$(PYTEST) -m "not slow" $(PARALLEL) $(TESTS)

test-slow: setup
	$(PYTEST) -m slow $(PARALLEL) --dist worksteal --share $(SHARE) $(TESTS)

# The same once more with Keras 2 (tf_keras) as TensorFlow's Keras.
test-tf-keras: setup
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt tf_keras
	TF_USE_LEGACY_KERAS=1 $(PYTEST) -m "$(MARK)" $(PARALLEL) $(TESTS)

# And with TensorFlow 2.15, its Keras 2.15 and tensorflow-addons.
setup-addons: $(ADDONS_VENV)/.installed

$(ADDONS_VENV)/.installed: setup.cfg pyproject.toml constraints-addons.txt
	@$(ADDONS_PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))" || \
		{ echo "tensorflow-addons needs Python 3.10 or 3.11, $(ADDONS_PYTHON) is another:" \
		"make $(MAKECMDGOALS) ADDONS_PYTHON=/path/to/python3.11"; exit 1; }
	@test -d $(ADDONS_VENV) || $(ADDONS_PYTHON) -m venv $(ADDONS_VENV)
	$(call install,$(ADDONS_VENV),constraints-addons.txt,test$(comma)addons)
	@touch $@

test-addons: setup-addons
	$(ADDONS_VENV)/bin/python -m pytest -m "$(MARK)" $(PARALLEL) $(TESTS)

# ONNX's converter and runtime, for tests/test_onnx.py alone; without them they are skipped.
onnx: setup
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt tf2onnx onnx onnxruntime

# PyTorch, for tests/test_agreement.py alone; without it they are skipped.
torch: setup
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch

agreement: torch
	$(PYTEST) tests/test_agreement.py

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: setup
	$(RUN) benchmarks/run.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage
