PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: several that each take all cores slow one another many times over.
# Bytecode is kept, which `make install` leaves to the first import: a process that compiles PyTorch and MMSegmentation itself takes
# some seconds more for one and a quarter of a minute for both, and the tests start dozens.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# Files in the order of tests/conftest.py, not by their number of tests.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
export NO_ALBUMENTATIONS_UPDATE = 1
# The versions of constraints.txt are for Python 3.11 and newer; 3.10 takes the newest that there are for it. A command of the
# recipe's shell, since make expands a whole recipe before its first line has made the environment.
CONSTRAINTS = $$($(BIN)/python -c "import sys; print('-c constraints.txt' * (sys.version_info >= (3, 11)))")

.PHONY: install demo dist docs test test-fast test-long test-faults test-wheel lint format type-check clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile $(CONSTRAINTS) -e '.[all,dev]'
	touch $@

demo: install
	$(BIN)/delete-tasks segmentation demo --overwrite

# The generated parts of docs/reference first; then into site/. A link or an anchor that is not there is an error.
docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q $(CONSTRAINTS) -e '.[docs]'
	touch $@

# Wheel and source distribution, checked as a package index checks them; uploading them is left to you.
dist: $(VENV)/.release
	rm -rf dist
	$(BIN)/python -m build -q
	$(BIN)/python -m twine check --strict dist/*

$(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install -q $(CONSTRAINTS) -e '.[release]'
	touch $@

# Everything but test-long, the whole fault suite and the installs of the wheel.
test: install
	$(PYTEST) $(PARALLEL) --durations 10

test-fast: install
	$(PYTEST) $(PARALLEL) -m 'not slow and not faults and not long and not wheel'

# Its longest file alone takes half of it: cases go to whichever process is free.
test-faults: install
	$(PYTEST) $(PARALLEL:loadfile=worksteal) -m '' tests/faults

# What make test has no time for: kills of real runs, several processes, more networks and variants.
test-long: install
	$(PYTEST) $(PARALLEL) -m long

# Builds the wheel and installs it in new environments; needs package registries and some minutes.
test-wheel: install
	$(PYTEST) -m '' tests/packaging

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

type-check: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site *.egg-info demo_output
