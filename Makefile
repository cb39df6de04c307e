# `make demo` runs the embedded benchmark, `make test` the test suite, `make test-slow` what starts clusters, several runs or
# whole studies, `make gate` what a change does to a slice of the benchmark, `make docs` writes the API page, docs/index.html.
# Each sets up .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed
API := backends $(patsubst backends/%/__init__.py,backends.%,$(filter-out backends/core/%,$(wildcard backends/[a-z]*/__init__.py))) $(patsubst backends/%.py,backends.%,$(wildcard backends/[a-z]*.py)) '!backends.*[.]_' harness.datasets harness.records.store

.PHONY: demo test test-slow check gate figures notebooks readme docs clean

demo: $(SETUP)
	$(BIN)/python -m harness.grid experiments/embedded.toml
	$(BIN)/python -m harness.report runs/embedded

test: $(SETUP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-slow: $(SETUP)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m slow tests

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A slice of the embedded benchmark, done anew and judged against the published one.
gate: $(SETUP)
	rm -rf runs/gate
	$(BIN)/python -m harness.grid experiments/embedded_gate.toml --out runs/gate
	$(BIN)/python -m harness.gate runs/gate/embedded_gate --baseline experiments/results/embedded_gate --limits .ci/limits.toml

figures: $(SETUP)
	$(BIN)/python -m harness.figures experiments/results/study_tiny_en --out figures
	$(BIN)/python -m harness.figures experiments/results/frontier_tiny_en --out figures/frontier_tiny_en
	$(BIN)/python -m harness.figures experiments/results/frontier_base --out figures/frontier_base
	$(BIN)/python -m harness.figures experiments/results/noise_tiny_en --out figures/noise_tiny_en

readme: $(SETUP)
	$(BIN)/python -m experiments.readme

notebooks: $(SETUP)
	$(BIN)/python notebooks/execute.py

docs: $(SETUP)
	$(BIN)/python -W error -W "ignore:Error parsing type annotation Calibration" -W 'ignore:`torch.jit.script_method` is deprecated' -m pdoc --docformat google $(API) --output-directory docs

$(SETUP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv runs docs
