# make test: the tests, in seven minutes.  make test-all: the slow ones too.
# make docs: the site of all pages, in build/docs.
# make demo: a potential from the data in examples/, in under three minutes after installation.
PYTHON ?= python3
PYTEST ?= -n 2 --dist loadfile
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# tests of whole runs, which take half of the time without the checks of shapes; those of the parts have them
WHOLE_RUNS := tests/cli tests/storage tests/studies $(addprefix tests/test_,$(addsuffix .py,resume run_folder starting workflow))
UNCHECKED := --jaxtyping-packages=none,beartype.beartype

# two tests run side by side, and each of their processes would start two threads that wait for one another
test test-slow coverage: export OMP_NUM_THREADS := 1

.PHONY: demo docs docs-online test test-slow test-all test-sanitized coverage lint types wheel clean

demo: $(READY)
	$(BIN)/python examples/demo.py $(DEMO)

# a warning, such as a dead link, is an error
docs: $(READY)
	$(BIN)/python -m sphinx -c docs -b html -E -W --keep-going -q . build/docs
	@echo open build/docs/index.html

# whether the links to other sites answer
docs-online: $(READY)
	$(BIN)/python -m sphinx -c docs -b linkcheck -q . build/docs-online

test: lint
	$(BIN)/python -m pytest $(PYTEST) -m "not slow" $(addprefix --ignore=,$(WHOLE_RUNS))
	$(BIN)/python -m pytest $(PYTEST) -m "not slow" $(UNCHECKED) $(WHOLE_RUNS)

test-slow: $(READY)
	$(BIN)/python -m pytest $(PYTEST) $(UNCHECKED) --no-loadscope-reorder -m slow  # which would start the tutorial last

test-all: test test-slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

types: $(READY)
	$(BIN)/mypy

# which lines the quick tests run; it takes twice their time
coverage: $(READY)
	$(BIN)/python -m pytest $(PYTEST) --cov --cov-fail-under=94 -m "not slow"

# the boundary to C with the kernels compiled under AddressSanitizer; needs gcc and its libasan
test-sanitized: $(READY)
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" ASAN_OPTIONS=detect_leaks=0 \
	$(BIN)/python -m pytest --sanitize tests/kernels/test_boundary.py tests/kernels/test_sanitizer.py

# with the kernels of common models compiled; needs gcc and objdump
wheel: $(READY)
	$(BIN)/python tools/wheel.py

# torch by itself and first, so that the CPU build of constraints.txt is taken and no other
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo dist
