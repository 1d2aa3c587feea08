# `make demo` and `make test` work on a fresh machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
STAMP = $(VENV)/.installed
PYTEST = $(RUN) -m pytest
# A process per core: a single one grows to 5 GB and slows down. The tests of a file stay together.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile

.PHONY: setup demo test test-slow test-tf-keras agreement torch lint bench clean

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "Python >= 3.10 is needed, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (TensorFlow is large: a few minutes)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools wheel
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable ".[test]"
	@# opencv-python needs libGL, which servers lack; the headless build is the same library without windows.
	@$(RUN) -c "import cv2" 2>/dev/null || { \
		$(VENV)/bin/pip uninstall --quiet --yes opencv-python; \
		$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt opencv-python-headless; }
	@touch $@

demo: setup
	@$(RUN) tools/demo.py

test: setup
	$(PYTEST) -m "not slow" $(PARALLEL)

test-slow: setup
	$(PYTEST) -m slow

# Once more, with Keras 2 as TensorFlow's Keras: networks, layers, losses, training; and several workers, which need it.
KERAS_2 = tests/test_model_contract.py tests/test_layers.py tests/test_losses.py tests/test_metrics.py \
	tests/test_training.py tests/test_train_tool.py tests/test_watching.py tests/test_training_warnings.py \
	tests/test_workers.py

test-tf-keras: setup
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt tf_keras
	TF_USE_LEGACY_KERAS=1 $(PYTEST) $(KERAS_2) $(PARALLEL)

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
