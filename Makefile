# Everything one does with this checkout. Each target sets up what it needs first; a second run
# installs nothing.
SHELL := /bin/bash
bin := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo lab build test test-lab-versions check format types lock bench bench-data bench-panel bench-train bench-magics

help:  ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo:  ## run the quickstart notebook on the Heliostat kernel and print its result
	@scripts/setup.sh demo
	@mkdir -p .build
	@$(bin)/heliostat run examples/quickstart.ipynb --output .build/quickstart.ipynb

lab:  ## open JupyterLab beside the examples
	@scripts/setup.sh demo
	@cd examples && exec ../$(bin)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

build:  ## build the lab extension anew if its sources changed, then reload the page
	@scripts/setup.sh demo

# In the order of the folders: the long files of the browser come first and the short ones of the docs
# last, so that neither process waits for the other at the end.
test:  ## all checks, then all tests
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory check
	@$(bin)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder || \
	  { echo "What failed beside other tests is run once more, alone:"; \
	    $(bin)/pytest --last-failed --last-failed-no-failures none; }

test-lab-versions:  ## browser tests against JupyterLab 4.2 to 4.5 with Notebook 7.2 to 7.5; make test has the newest
	@scripts/setup.sh test
	@scripts/test_lab_versions.sh

check:  ## linters, formatters, type checkers, layers, generated types and docs, tests of the panel
	@scripts/setup.sh test
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/python scripts/generate_types.py --check
	$(bin)/python scripts/generate_api_docs.py --check
	npm run --silent format:check
	npm run --silent lint
	npm run --silent typecheck
	npm run --silent test

format:  ## format everything
	@scripts/setup.sh test
	$(bin)/ruff check --fix-only
	$(bin)/ruff format
	npm run --silent format

types:  ## write labextension/src/messages.ts from the Python messages
	@scripts/setup.sh test
	$(bin)/python scripts/generate_types.py
	$(bin)/python scripts/generate_api_docs.py

lock:  ## resolve the pinned environments anew
	@scripts/setup.sh test
	$(bin)/python scripts/lock_environments.py

bench:  ## measure start, boot, resize, idle cost, panel and stop, some against plain ipykernel and Ray
	@scripts/setup.sh test
	@$(bin)/python benchmarks/everything.py

bench-data:  ## measure loading from Parquet, against pyarrow, Polars, Ray Data and others; table, JSON and picture in .build
	@scripts/setup.sh bench
	@mkdir -p .build
	@$(bin)/python benchmarks/load_data.py --json .build/bench-data.json --picture .build/bench-data.png

bench-magics:  ## measure %%distribute against ipyparallel
	@scripts/setup.sh bench
	@mkdir -p .build
	@$(bin)/python benchmarks/distribute.py --json .build/magics.json

bench-panel:  ## measure what the panel shows how soon, and what it costs
	@scripts/setup.sh test
	@$(bin)/python benchmarks/panel.py

bench-train:  ## measure training against pandas, dask, Ray Train; table, JSON and picture in .build
	@scripts/setup.sh bench
	@mkdir -p .build
	@$(bin)/python benchmarks/train_boosting.py --json .build/train_boosting.json --picture .build/train_boosting.svg
	@$(bin)/python benchmarks/train_torch.py --json .build/train_torch.json --picture .build/train_torch.svg
