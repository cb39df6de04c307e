# `make demo` runs the embedded benchmark, `make test` the test suite. Each sets up .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed

.PHONY: demo test check figures notebooks docs clean

demo: $(SETUP)
	$(BIN)/python -m harness.grid experiments/embedded.toml
	$(BIN)/python -m harness.report runs/embedded

test: $(SETUP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

figures: $(SETUP)
	$(BIN)/python -m harness.figures runs/embedded --out figures

notebooks: $(SETUP)
	$(BIN)/python notebooks/execute.py

$(SETUP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

docs: $(SETUP)
	$(BIN)/python -m pdoc backends backends.extending backends.testing harness.datasets --output-directory docs

clean:
	rm -rf .venv runs docs
