# Two ways in: `make reproduce` runs the book, `make test` checks it. `make` alone lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BOOK_VENV := .venv-book
BOOK_STAMP := $(BOOK_VENV)/installed
# pytest processes; one thread each, because threads that share cores are far slower than one.
JOBS ?= 2
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS
ARGS ?=
# JupyterLab starts as root, which is who one is in a container, only when told to. Kernels take the package from here.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
GRID ?= notebooks/grid.yaml

.DEFAULT_GOAL := help
.PHONY: help install reproduce full sweep test lint lab notebooks badges readme bench book book-pdf test-book clean

help:  ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "make: Python 3.11 or newer is needed and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
endef

install: $(STAMP)  ## Create .venv from requirements.lock (a second time does nothing)

# A Python that is gone (it was upgraded) leaves a dangling .venv: the stamp counts only while its Python starts.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell $(BIN)/python -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(STAMP))
CLEAR := --clear
endif
endif

$(STAMP): requirements.lock
	$(check_python)
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@

reproduce: $(STAMP)  ## Run every notebook, two at a time; results in runs/ (ARGS="--notebooks 00,06 --kernels 4")
	$(BIN)/python -m reproduce run --profile quick $(ARGS)

full: $(STAMP)  ## The same with the full settings of notebooks/profiles.yaml
	$(BIN)/python -m reproduce run --profile full $(ARGS)

sweep: $(STAMP)  ## Run the grid GRID=notebooks/grid.yaml in parallel; results in runs/sweep (ARGS="--dry-run")
	$(BIN)/python -m reproduce sweep $(GRID) $(ARGS)

# Tests write their figures to a folder of their own: the committed ones stay as they are.
test: $(STAMP)  ## Unit and property tests, then every stored notebook output against a fresh run
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && export L2D_OUT="$$out" && \
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile && \
	$(BIN)/python -m pytest notebooks -n $(JOBS) --dist loadfile -p tests.nbval_sockets \
		--nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/sanitize.cfg

lint: $(STAMP)  ## ruff on code and notebooks
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check l2d_utils reproduce tests benchmarks book

lab: $(STAMP)  ## JupyterLab on this machine only (ARGS="--port=9999 --no-browser")
	$(BIN)/python -m jupyterlab --ip=127.0.0.1 $(AS_ROOT) $(ARGS) notebooks

notebooks: $(STAMP)  ## Re-execute the notebooks in place; a second time changes no byte (ARGS="--notebooks 06")
	$(BIN)/python -m reproduce execute $(ARGS)

badges: $(STAMP)  ## Rewrite every launch badge and Colab cell from the address in pyproject.toml
	$(BIN)/python -m reproduce badges

readme: $(STAMP)  ## Rewrite the generated parts of README.md
	$(BIN)/python -m reproduce readme

bench: $(STAMP)  ## Print the speed and memory ratios
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# The site needs neither torch nor a kernel: an environment of its own, from a lock of its own.
$(BOOK_STAMP): requirements-book.lock
	$(check_python)
	$(PYTHON) -m venv $(BOOK_VENV)
	$(BOOK_VENV)/bin/python -m pip install --disable-pip-version-check -r requirements-book.lock
	@touch $@

book: $(BOOK_STAMP)  ## Build the site of all stored notebooks: build/book/index.html
	$(BOOK_VENV)/bin/python book/build.py

book-pdf: book  ## Print every chapter to build/book-pdf with a headless Chromium
	$(BOOK_VENV)/bin/python book/pdf.py

test-book: $(BOOK_STAMP)  ## Browser tests of the site in a headless Chromium
	$(BOOK_VENV)/bin/python -m pytest tests/book --confcutdir=tests/book

clean:  ## Remove both environments and caches; runs/ is kept
	rm -rf $(VENV) $(BOOK_VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
