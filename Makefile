# Two commands for a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test test-slow lint bench clean

$(STAMP): setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

quickstart: $(STAMP)  ## speak a small corpus, pack it, pretrain on it; again to resume
	$(BIN)/segue quickstart

test: $(STAMP)  ## the tests, real two-process runs among them
	$(BIN)/python -m pytest tests

test-slow: $(STAMP)  ## tests that take minutes or need SLURM on this machine
	$(BIN)/python -m pytest tests -m slow

lint: $(STAMP)  ## ruff, and mypy in strict mode on our own packages
	$(BIN)/ruff check --config .ci/ruff.toml .
	$(BIN)/ruff format --config .ci/ruff.toml --check .
	$(BIN)/mypy --config-file .ci/mypy.ini

bench: $(STAMP)  ## the stream against plain webdataset, on the quickstart's shards
	$(BIN)/python tests/bench/stream.py quickstart/shards

clean:
	rm -rf $(VENV) quickstart build *.egg-info
