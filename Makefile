# All commands a developer needs; `make help` lists them. CI runs `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := libs services cli tests

.DEFAULT_GOAL := help

help:  ## list all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/.runtime: requirements/runtime.txt requirements/packages.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -r requirements/packages.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

install: $(VENV)/.runtime  ## install the platform into .venv (command .venv/bin/tidemill)

dev: $(VENV)/.dev  ## install what checks and tests need as well

demo: install  ## photographs become results: the whole platform once, on this machine
	$(BIN)/python examples/demo.py

check: dev  ## lint, types, import rules, unit and contract tests (under a minute)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -n 2

servers:  ## install the servers that only tests need (Debian: PostgreSQL, rclone, wrk)
	@sh tests/install-servers.sh

test: check servers  ## everything: check, then integration, end-to-end and fault tests on real servers
	$(BIN)/pytest -m integration
	$(BIN)/pytest -m e2e
	$(BIN)/pytest -m chaos

test-docker: dev servers  ## user code in containers, on a Docker daemon of its own (or that of DOCKER_HOST)
	$(BIN)/pytest -m docker

test-peers: dev  ## what other stores really send: MinIO, built from its Go module (about six minutes, once)
	sh tests/peers/install.sh
	$(BIN)/pytest -m peers

test-kubernetes: dev servers  ## the platform in a cluster: that of KUBECONFIG, or one made for it (root; twenty minutes to build, once)
	[ -n "$$KUBECONFIG" ] || tests/testbed/kubernetes/addons.sh .cache
	tests/testbed/kubernetes/with-cluster.sh $(BIN)/pytest -m kubernetes

bench-kubernetes: dev servers  ## print the figures of "In a cluster" in docs/performance.md; the cluster as for test-kubernetes
	tests/testbed/kubernetes/with-cluster.sh $(BIN)/python -m tests.bench.kubernetes

chaos: dev  ## the fault tests with more files: make chaos N=5000
	TIDEMILL_CHAOS_FILES=$(or $(N),500) $(BIN)/pytest -m chaos -s

bench: dev servers  ## print the figures of docs/performance.md
	$(BIN)/python -m tests.bench

soak: dev  ## memory of each process over time under steady load: make soak MINUTES=20 RATE=40
	MINUTES=$(or $(MINUTES),20) RATE=$(or $(RATE),40) $(BIN)/python -m tests.bench.soak

lock:  ## renew requirements/*.txt from *.in
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv
	for name in runtime dev; do $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url requirements/$$name.in -o requirements/$$name.txt || exit 1; done

clean:  ## remove what was installed and built
	rm -rf $(VENV) $(VENV)-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache

.PHONY: help install dev demo check servers test test-docker test-kubernetes test-peers chaos bench bench-kubernetes soak lock clean
