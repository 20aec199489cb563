# What developers run; voicectl is what users run.
UV := $(shell sh tools/uv.sh)
PYTEST_ARGS ?=

.PHONY: setup lint test

setup:  ## everything the tests need: Python packages, Chromium, Node (through uv), LiveKit's server and the models
	$(UV) sync --locked --all-extras
	$(UV) run --no-sync python -m tests.setup

lint:  ## style, types, the direction of imports
	$(UV) run --no-sync ruff format --check .
	$(UV) run --no-sync ruff check .
	$(UV) run --no-sync mypy
	$(UV) run --no-sync lint-imports

test: setup lint  ## all of it, on real parts
	$(UV) run --no-sync pytest -n 3 --dist loadgroup -m "not live" $(PYTEST_ARGS)
	$(UV) run --no-sync pytest -n 2 --dist loadgroup -m "live and not alone" $(PYTEST_ARGS)
	$(UV) run --no-sync pytest -m "live and alone" $(PYTEST_ARGS)
