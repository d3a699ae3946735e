# Everything runs in .venv, which the first target that needs it makes. Needs Python 3.11+, make and a C compiler.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
DEMO := .kubedistill
export PYTHONPATH :=

.PHONY: help setup demo test lint unit engine bench docs check-docs pins clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.ready: requirements/dev.txt pyproject.toml
	@echo "== setting up .venv (once; about 6 GB)"
	@started=$$(date +%s); \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 ..."; exit 1; }; \
	{ test -x $(BIN)/python || $(PYTHON) -m venv .venv; } && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements/dev.txt && \
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable . && \
	touch $@ && \
	echo "== set-up took $$(( $$(date +%s) - started )) s"

setup: .venv/.ready ## Make the environment

demo: .venv/.ready ## Distil a tiny teacher into a tiny student on this machine, with every stage real
	@$(BIN)/kubedistill run examples/demo.yaml --root $(DEMO)

test: .venv/.ready lint unit engine ## Set up and run every test
	@echo "== all tests passed; the engine tests' JUnit report is build/engine.xml, the others' build/unit.xml"

lint: .venv/.ready ## Style, types, import direction, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/.ready ## Tests without an engine
	@mkdir -p build
	$(BIN)/python -m pytest -q -m "not engine" --junit-xml=build/unit.xml tests

engine: .venv/.ready ## Tests on real engines
	@mkdir -p build
	$(BIN)/python -m pytest -q -m engine --junit-xml=build/engine.xml tests

bench: .venv/.ready ## Ratios against peers, as JSON; compared with tests/benchmarks/baselines.json
	@$(BIN)/python -m tests.benchmarks

docs: .venv/.ready ## Generate docs/api.md from the models
	$(BIN)/python docs/generate.py

check-docs: .venv/.ready ## Fail when docs/api.md is not what the models say
	$(BIN)/python docs/generate.py --check

pins: .venv/.ready ## Resolve requirements/*.txt anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --override requirements/overrides.txt --extra runtime --extra operator --extra cpu --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --override requirements/overrides.txt --extra runtime --extra cpu pyproject.toml -o requirements/runtime-cpu.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --extra runtime --extra cuda pyproject.toml -o requirements/runtime-cuda.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --extra operator pyproject.toml -o requirements/operator.txt

clean: ## Remove everything that make made
	rm -rf .venv build $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
