# `make` prints the targets. Each target first installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
HOST ?= 127.0.0.1
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help train test test-ray lint format ui demo screenshots docs wheel clean

# The help text of a target follows its ##.
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

train: .venv/ready  ## train on synthetic eyes; ARGS="model=inception_v3" and other overrides
	$(BIN)/eyegender train $(ARGS)

# Processes with one thread each; the one that runs out of tests takes some of another's.
UNIT_TESTS = -m 'not integration' --numprocesses auto --maxprocesses 8 --dist worksteal

# Many tests wait for SQLite, which waits for the disk at each commit. A disk in memory loses as little as another when
# a process is killed. Linux has one in /dev/shm; it is used if programs may run from it and memory is plentiful.
IN_MEMORY = grep -qs '^[^ ]* /dev/shm tmpfs rw' /proc/mounts && ! grep -qs ' /dev/shm .*noexec' /proc/mounts && \
	test "$$(df -Pk /dev/shm | awk 'NR == 2 { print $$4 }')" -gt 4000000 && \
	test "$$(awk '/^MemAvailable/ { print $$2 }' /proc/meminfo)" -gt 8000000

# What failed tests wrote stays there to be looked at.
test: .venv/ready-to-test  ## run the unit tests; ARGS=tests runs all of them, ARGS=FILE one file
	@if test -z "$$TMPDIR" && $(IN_MEMORY); then TMPDIR=$$(mktemp -d /dev/shm/eyegender-XXXXXX); \
		export TMPDIR; chmod 711 "$$TMPDIR"; made=$$TMPDIR; fi; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(or $(ARGS),$(UNIT_TESTS)) && { test -z "$$made" || rm -rf "$$made"; }

# Ray's launcher and joblib 1.6 need different versions of cloudpickle, so Ray gets a separate environment.
test-ray: .venv/ready  ## run a sweep on Ray, in a separate environment
	$(PYTHON) -m venv .venv-ray
	grep -v -e '^cloudpickle=' -e '^joblib=' constraints.txt > .venv-ray/constraints.txt
	$(BIN)/uv pip install --quiet --python .venv-ray/bin/python --constraints .venv-ray/constraints.txt \
		hydra-core hydra-ray-launcher 'ray[default]' optuna pytest pytest-timeout
	PYTHONPATH="$(CURDIR)" .venv-ray/bin/python -m pytest tests/cluster/test_ray.py

lint: .venv/ready-to-test  ## check the code with ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready-to-test  ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: .venv/ready  ## show the runs in a browser; set HOST= and PORT= to change the address
	@test "$(HOST)" = 127.0.0.1 || echo "Warning: the page listens on $(HOST); anyone who can reach this machine can read and change the runs without a password"
	@$(BIN)/python -m eyegender.tracking.check sqlite:///mlruns/mlflow.db
	@# MLflow itself would exit with 0.
	@$(BIN)/python -c 'import socket, sys; socket.create_server((sys.argv[1], int(sys.argv[2]))).close()' $(HOST) $(PORT) 2>/dev/null || \
		{ echo "make ui: $(HOST) port $(PORT) is in use or not on this machine; set another PORT= or HOST=" >&2; exit 2; }
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host $(HOST) --port $(PORT)

demo: .venv/ready-to-test  ## try a model in a browser; ARGS="models=[models:/NAME@ALIAS]"
	$(BIN)/eyegender demo $(ARGS)

screenshots: .venv/ready-to-test  ## take the screenshots of the docs again
	EYEGENDER_SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/integration/test_browser.py tests/integration/test_browser_mlflow.py \
		tests/integration/test_browser_studies.py tests/integration/test_docs_site.py tests/integration/test_export_report.py --basetemp=/tmp/eyegender

docs: .venv/ready-to-document  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: .venv/ready-to-test  ## build the wheels of eyegender and of the sweeper alone into dist/
	$(BIN)/python -m build --wheel
	$(BIN)/python -m build --wheel --outdir dist sweeper

clean:  ## remove the environments and the build outputs
	rm -rf .venv .venv-ray build dist site

# uv reads the same constraints as pip and is many times faster. The bytecode is compiled here, or the first import of
# torch and MLflow would take half a minute.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraints constraints.txt

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("eyegender needs Python 3.11 or newer, got " + sys.version.split()[0] + "; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(INSTALL) --editable '.[cluster]'
	@touch $@

.venv/ready-to-test: .venv/ready
	$(INSTALL) --editable '.[cluster,kubernetes,onnx,explain,faces,celeba]' --group test --group lint
	@touch $@

.venv/ready-to-document: .venv/ready
	$(INSTALL) --group docs
	@touch $@
