# Everything runs in .venv, which the first target that needs it makes. Needs Python 3.11+, make and a C compiler.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
DEMO := .kubedistill
CRDS := crds charts/kubedistill/crd-files
export PYTHONPATH :=

.PHONY: help setup demo test lint unit engine programs programs-ahead controlplane chart node faults cluster cluster-down bench bench-operator docs crds check-crds chart-values pins clean
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# Compiled, as every engine imports thousands of modules in a process of its own, and in a pod cannot keep what it compiled.
.venv/.ready: requirements/dev.txt pyproject.toml
	@echo "== setting up .venv (once; about 7 GB)"
	@started=$$(date +%s); \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 ..."; exit 1; }; \
	{ test -x $(BIN)/python || $(PYTHON) -m venv .venv; } && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) && \
	$(BIN)/uv pip install --quiet --no-deps --compile-bytecode --python $(BIN)/python -r requirements/dev.txt && \
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable . && \
	touch $@ && \
	echo "== set-up took $$(( $$(date +%s) - started )) s"

setup: .venv/.ready ## Make the environment

demo: .venv/.ready ## Distil a tiny teacher into a tiny student on this machine, with every stage real
	@$(BIN)/kubedistill run examples/demo.yaml --root $(DEMO)

test: .venv/.ready programs-ahead lint unit engine controlplane chart node ## Set up and run every test
	@echo "== all tests passed; the JUnit reports are build/{unit,engine,controlplane,chart,node}.xml"

lint: .venv/.ready ## Style, types, import direction, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m charts.generate --check
	@$(MAKE) --no-print-directory check-crds

PYTEST := $(BIN)/python -m pytest --durations=5 --junit-xml=build

unit: .venv/.ready ## Tests without an engine
	$(PYTEST)/unit.xml -q -m "not engine" tests/unit tests/integration

engine: .venv/.ready ## Tests on real engines
	$(PYTEST)/engine.xml -v -m engine tests/unit tests/integration

# The test cluster is built in the idle time of the tests that do not need it.
programs-ahead: .venv/.ready
	@mkdir -p build
	@nice -n 19 $(BIN)/python -m tests.cluster.build > build/programs.log 2>&1 &

programs: .venv/.ready ## Build the test cluster and Helm: API server, kubelet, ... (once; 14 minutes)
	@$(BIN)/python -m tests.cluster.build > /dev/null

controlplane: .venv/.ready programs ## Tests of the operator on a real API server
	$(PYTEST)/controlplane.xml -v tests/controlplane

chart: .venv/.ready programs ## Tests of the Helm chart, with Helm and a real API server
	$(PYTEST)/chart.xml -v tests/chart

node: .venv/.ready programs ## Tests of jobs in real pods on a real node (Linux, as root)
	$(PYTEST)/node.xml -v tests/node

faults: .venv/.ready programs ## What faults of the cluster do to jobs, as a table (Linux, as root; the better part of an hour)
	@$(BIN)/python -m tests.faults

cluster: .venv/.ready ## Leave a real one-node Kubernetes running to try things on (Linux, as root)
	@$(BIN)/python -m tests.cluster up

cluster-down: .venv/.ready ## Remove every trace of it
	@$(BIN)/python -m tests.cluster down

bench: .venv/.ready ## Ratios against peers, as JSON; compared with tests/benchmarks/baselines.json
	@$(BIN)/python -m tests.benchmarks

bench-operator: .venv/.ready programs ## The operator under 1,000 jobs on a real API server, as JSON
	@$(BIN)/python -m tests.benchmarks.operator_load

docs: .venv/.ready ## Generate docs/api.md from the models
	$(BIN)/python docs/generate.py

check-crds: .venv/.ready ## Fail when the CRDs of crds/ and the chart are not what the models say
	$(BIN)/python -m kubedistill_api.crd --check $(CRDS)

crds: .venv/.ready ## Generate the CRDs of crds/ and the chart from the models
	$(BIN)/python -m kubedistill_api.crd $(CRDS)

chart-values: .venv/.ready ## Generate the chart's values.yaml, its schema and its table from charts/settings.py
	$(BIN)/python -m charts.generate

pins: .venv/.ready ## Resolve requirements/*.txt anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --override requirements/overrides.txt --extra runtime --extra harness --extra operator --extra cpu --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --override requirements/overrides.txt --extra runtime --extra cpu pyproject.toml -o requirements/runtime-cpu.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --extra runtime --extra cuda pyproject.toml -o requirements/runtime-cuda.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --extra operator pyproject.toml -o requirements/operator.txt

clean: ## Remove everything that make made
	rm -rf .venv build $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
