PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= demo
PYTEST = $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

.PHONY: demo docs test test-slow test-matrix test-beam test-benchmarks test-wheel lint clean

# Trains ours and TFRS on MovieLens, compares them and baselines, exports, queries. It
# leaves out the training on all rows that follows by itself, and makes 3 epochs of 10.
demo: $(VENV)/demo,scann.installed
	$(BIN)/tfrs-negatives train --no-all-rows --epochs 3 --output $(OUTPUT)
	$(BIN)/tfrs-negatives query $(OUTPUT) --user 1

# The suite under both Kerases. Two processes take a file of tests each, by name: sorted
# by the number of tests, files of few and long ones would come last.
test: lint
	TF_USE_LEGACY_KERAS=1 $(PYTEST)
	TF_USE_LEGACY_KERAS=0 $(PYTEST)

# All of it, for a release. Fails below 95% of lines covered: to count them takes a quarter
# more time, which `test` is spared.
test-slow: lint
	TF_USE_LEGACY_KERAS=1 $(PYTEST) --slow --cov --cov-fail-under=95
	TF_USE_LEGACY_KERAS=0 $(PYTEST) --slow

# The fast suite on the Pythons and TensorFlows of `CORNERS`, an environment for each in
# build/matrix. Hours of work, and gigabytes: `CORNERS=3.13-2.21` is one of them.
CORNERS ?= 3.10-2.18 3.11-2.20 3.11-2.21 3.13-2.20 3.13-2.21
test-matrix:
	PYTEST_ARGS="$(PYTEST_ARGS)" .ci/matrix $(CORNERS)

# What tests benchmarks alone, before work on them is closed: `PYTEST_ARGS=--slow` runs them too.
test-benchmarks: $(VENV)/test-benchmarks.installed
	TF_USE_LEGACY_KERAS=1 $(PYTEST) tests/benchmarks
	TF_USE_LEGACY_KERAS=0 $(PYTEST) tests/benchmarks

# The tests that need Apache Beam, in an environment of its own.
BEAM := build/beam
test-beam:
	test -x $(BEAM)/bin/python || $(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --editable ".[test-beam]"
	TF_USE_LEGACY_KERAS=1 $(BEAM)/bin/pytest --slow tests/pipeline tests/docs -k "pipeline or data_engine"

# The package as users get it: the sdist installs in an environment of its own, and the
# wheel passes the sdist's tests there, in a folder that does not hold the package.
WHEEL := build/wheel
WHEEL_TESTS ?= tests/test_package.py tests/docs tests/layers tests/losses tests/tasks
test-wheel:
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet build
	$(WHEEL)/venv/bin/python -m build --outdir $(WHEEL)/dist
	$(WHEEL)/venv/bin/python -m pip install --quiet $(WHEEL)/dist/*.tar.gz
	$(WHEEL)/venv/bin/tfrs-negatives --version
	$(WHEEL)/venv/bin/python -m pip install --quiet --force-reinstall --no-deps \
		$(WHEEL)/dist/*.whl
	$(WHEEL)/venv/bin/python -m pip install --quiet \
		"$$(echo $(CURDIR)/$(WHEEL)/dist/*.whl)[test]"
	folder=$$(mktemp --directory) && \
	tar --extract --gzip --strip-components 1 --directory $$folder \
		--file $(WHEEL)/dist/*.tar.gz && \
	rm -r $$folder/tfrs_negatives && cd $$folder && unset PYTHONPATH && \
	TF_USE_LEGACY_KERAS=1 $(CURDIR)/$(WHEEL)/venv/bin/pytest $(WHEEL_TESTS) && \
	TF_USE_LEGACY_KERAS=0 $(CURDIR)/$(WHEEL)/venv/bin/pytest $(WHEEL_TESTS) && \
	rm -rf $$folder

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site. A warning, a link that leads nowhere or a public name without a
# docstring fails it. (The variable spares builds a notice about the next MkDocs.)
docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/%.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) $(OUTPUT) build .coverage .pytest_cache .ruff_cache .mypy_cache
