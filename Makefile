PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: install demo test test-fast lint format type-check clean

install: $(VENV)/.installed

# The headless OpenCV goes in last: the GUI build that other packages bring needs libGL, and both write cv2.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,dev]'
	$(BIN)/python -m pip install -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless
	touch $@

demo: install
	$(BIN)/python -m delete_mmseg.demo

# One thread a process: several that each take all cores slow one another many times over.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 10

test-fast: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not slow'

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

type-check: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info demo_output
