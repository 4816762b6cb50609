# Two commands for a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .bench/peers

.PHONY: quickstart test test-slow lint bench-data bench-pack bench-startup bench-checkpoint bench-forgetting \
	bench-overhead bench-gpu clean

$(STAMP): setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

quickstart: $(STAMP)  ## speak a small corpus, pack it, pretrain on it; again to resume
	$(BIN)/segue quickstart

# A cluster's jobs mostly wait for its controller: two halves of the tests run beside each other.
test: $(STAMP)  ## the tests, real two-process runs among them
	@mkdir -p build; env --default-signal=INT $(BIN)/python -m pytest tests/slurm tests/shards tests/pretrain \
			> build/test-half.log 2>&1 & half=$$!; \
		$(BIN)/python -m pytest tests --ignore tests/slurm --ignore tests/shards --ignore tests/pretrain; other=$$?; \
		wait $$half; one=$$?; cat build/test-half.log; exit $$((one + other))

test-slow: $(STAMP)  ## tests that take minutes
	$(BIN)/python -m pytest tests -m slow

lint: $(STAMP)  ## ruff, and mypy in strict mode on our own packages
	$(BIN)/ruff check --config .ci/ruff.toml .
	$(BIN)/ruff format --config .ci/ruff.toml --check .
	$(BIN)/mypy --config-file .ci/mypy.ini

# The peers need other versions of our packages.
$(PEERS)/.installed: tests/bench/peers/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench-data: $(STAMP) $(PEERS)/.installed  ## the stream against its peers: 15 minutes, 2 GB
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python tests/bench/data.py build/bench
	$(BIN)/python tests/bench/padding.py

bench-pack: $(STAMP)  ## packing against decode, resample and encode of the same files: 15 minutes, 5 GB
	$(BIN)/python tests/bench/pack.py build/bench

bench-startup: $(STAMP)  ## the first micro-batch of corpora of up to 100 million clips: 20 GB
	$(BIN)/python tests/bench/startup.py build/bench

bench-checkpoint: $(STAMP)  ## saving and restoring against DeepSpeed's own: 2 minutes, 5 GB
	mkdir -p build/bench/checkpoint
	DS_ACCELERATOR=cpu $(BIN)/accelerate launch --config_file configs/accelerate/zero2.yaml \
		--num_processes 2 tests/bench/checkpoint.py build/bench/checkpoint

bench-forgetting: $(STAMP)  ## continuing on other voices, in six ways: 20 minutes, 1 GB
	$(BIN)/python tests/bench/forgetting.py build/bench/forgetting

bench-overhead: $(STAMP)  ## the training loop against bare loops: 6 minutes
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/overhead.py build/bench/overhead

bench-gpu: $(STAMP)  ## s1 and Seed-VC small on one CUDA device, against dense masks and fixed counts
	$(BIN)/python tests/bench/gpu.py build/bench/gpu

clean:
	rm -rf $(VENV) .bench quickstart build *.egg-info
