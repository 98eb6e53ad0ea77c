# Needs make and Python 3.11 or newer. Each target makes .venv itself where there is none.
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help setup demo fmt lint type test test-slow check coverage examples bench dist

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

setup: $(INSTALLED) ## make .venv with forecastd and the tools of development

demo: $(INSTALLED) ## train on the bundled data and follow it as a live stream
	.venv/bin/python -m forecast_cli.demo

fmt: $(INSTALLED) ## format, and fix what can be fixed
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lint: $(INSTALLED) ## style, format and import directions
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

type: $(INSTALLED) ## types, strict
	.venv/bin/mypy

test: $(INSTALLED) ## all quick tests, files side by side on all cores
	.venv/bin/pytest -n auto --dist loadfile -m "not slow and not gpu"

test-slow: $(INSTALLED) ## the tests that train, kill and restart
	.venv/bin/pytest -m "slow and not gpu"

check: lint type test ## what has to pass before a merge

coverage: $(INSTALLED) ## write which test shows which row of the source documents
	.venv/bin/python tests/coverage_table.py

examples: $(INSTALLED) ## train and score the reference examples, three seeds each
	.venv/bin/python examples/run.py

bench: $(INSTALLED) ## run every benchmark
	for script in step stream codec train loader memory; do .venv/bin/python benchmarks/$$script.py || exit 1; done

dist: $(INSTALLED) ## build the wheel into dist/
	$(PIP) wheel --no-deps --wheel-dir dist .

$(INSTALLED): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing forecastd and its tools into .venv; this takes about a minute"
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@echo "compiling for this machine"
	.venv/bin/python -m compileall -q forecastd cli
	echo '{"station":"north","ds":"2013-01-01T00:00:00Z","load":50,"heat":1}' | \
	  .venv/bin/forecast stream --device cpu tests/golden/model_format_1 > /dev/null
	touch $@
