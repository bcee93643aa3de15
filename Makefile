# The whole workflow. CI calls these targets and nothing else.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= train,catboost,masks,dev
BIN := $(VENV)/bin

.PHONY: setup demo test check bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make setup | demo | test | check | bench | docs"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "conjoin needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.quality

docs: setup
	$(BIN)/python docs/build.py

clean:
	rm -rf $(VENV) demo
