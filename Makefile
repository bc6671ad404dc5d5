# chargen. `make` lists what there is; `make train` sets everything up by itself.

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.installed
NATIVE := $(wildcard src/chargen/native/*.cpp src/chargen/native/*.h)
BUILD_KERNELS = $(BIN)/python setup.py -q build_ext --inplace

.DEFAULT_GOAL := help
.PHONY: help install train sample evaluate plot report test test-fast test-all bench quality texts hour beginnings second precision figures lint types check format kernels lower-bounds clean

##@ Use it
train: $(STAMP)  ## train for three minutes; ARGS="my.txt model=small" to change anything
	@$(BIN)/chargen train $(ARGS)

sample: $(STAMP)  ## write text with the newest run; CKPT=runs/x  ARGS="--temperature 0.7"
	@$(BIN)/chargen sample $(CKPT) $(ARGS)

evaluate: $(STAMP)  ## score the newest run; CKPT=runs/x  ARGS="--text other.txt"
	@$(BIN)/chargen evaluate $(CKPT) $(ARGS)

plot: $(STAMP)  ## draw the learning curve of the newest run; CKPT=runs/x
	@$(BIN)/chargen plot $(CKPT) $(ARGS)

report: $(STAMP)  ## write a page about the newest run; CKPT=runs/x
	@$(BIN)/chargen report $(CKPT) $(ARGS)

##@ Work on it
test: $(STAMP)  ## the default tests, up to four minutes; ARGS="tests/nn -k finite_differences" for some of them
	$(BIN)/pytest -n 2 $(ARGS)

test-fast: $(STAMP)  ## the tests that start no process and train nothing, a minute
	$(BIN)/pytest -n 2 -m "not slow and not gpu and not starts" $(ARGS)

test-all: $(STAMP)  ## all tests that need no GPU, up to twenty minutes
	$(BIN)/pytest -n 2 -m "not gpu" $(ARGS)

bench: $(STAMP)  ## measure speed, and write benchmarks/RESULTS.md; ARGS=--quick for two minutes
	$(BIN)/python benchmarks/results.py $(ARGS)

quality: $(STAMP)  ## measure the score per minute of training, for half an hour; ARGS=--quick for two minutes
	$(BIN)/python benchmarks/results.py --long Quality $(ARGS)

texts: $(STAMP)  ## measure the same for other texts, for twenty minutes
	$(BIN)/python benchmarks/results.py --long "Other texts" $(ARGS)

hour: $(STAMP)  ## measure the score after an hour; a stopped measurement continues
	$(BIN)/python benchmarks/results.py --long "An hour" $(ARGS)

beginnings: $(STAMP)  ## count well-formed beginnings of samples, for ten minutes
	$(BIN)/python benchmarks/results.py --long Beginnings $(ARGS)

second: $(STAMP)  ## measure what init= gains on a second text, for fifteen minutes
	$(BIN)/python benchmarks/results.py --long "A second text" $(ARGS)

precision: $(STAMP)  ## compare the score of products in bf16 with float32, for ten minutes
	$(BIN)/python benchmarks/results.py --long Precision $(ARGS)

lint: $(STAMP)  ## ruff and clang-format: rules and formatting
	$(BIN)/ruff check src tests benchmarks scripts setup.py
	$(BIN)/ruff format --check src tests benchmarks scripts setup.py
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

types: $(STAMP)  ## mypy, strict; and whether Windows and macOS have what is called
	$(BIN)/mypy
	$(BIN)/mypy --config-file scripts/platforms.ini --platform win32
	$(BIN)/mypy --config-file scripts/platforms.ini --platform darwin

check: lint types test  ## everything that has to pass: lint, types, test

format: $(STAMP)  ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix src tests benchmarks scripts setup.py
	$(BIN)/ruff format src tests benchmarks scripts setup.py
	$(BIN)/clang-format -i $(NATIVE)

##@ Set up
install: $(STAMP)  ## create .venv with chargen and the versions of constraints.txt

# pip hides the compiler's output, so the kernels are compiled by a command of their own.
$(STAMP): pyproject.toml constraints.txt setup.py $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing chargen into .venv (torch is large: a minute or more)"
	@CHARGEN_KERNELS=off $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[plots,documents,parquet,dev]"
	@$(BUILD_KERNELS)
	@touch $(STAMP)

kernels:  ## compile the kernels in place; CXX=clang++ for another compiler
	@test -x $(BIN)/python || { echo "there is no .venv yet: run make install, which compiles the kernels too"; exit 1; }
	@CHARGEN_KERNELS=$${CHARGEN_KERNELS:-require} $(BUILD_KERNELS)

figures: $(STAMP)  ## draw the figures of docs/rnn-explained.md, for about five minutes
	$(BIN)/python scripts/figures.py

lower-bounds: $(STAMP)  ## try the lowest versions of pyproject.toml together; needs the network, ten minutes
	$(BIN)/python scripts/lower_bounds.py $(ARGS)

clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache src/*.egg-info

help:
	@awk 'BEGIN {FS = ":.*##"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
