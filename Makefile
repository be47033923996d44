# make demo     trains a Transformer that pronounces English words, measures it, uses it, shows what it attends to, answers a question
# make test     lint, types and the whole test suite: what CI runs
# make check    lint, format and types only
# make lab      opens the lab: every question with its answer, experiments to run again, trained models to look into
# make bench    speed beside the peers, into bench/results/
# make results  what the recipes reach, into docs/: trains what is missing, may be stopped and given again; -j 2 on two cores
#
# PIP_ARGS is handed to pip. The CPU build of torch, where pip would choose another:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2
LAB_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
PARTS := $(patsubst bench/understanding/%.py,%,$(shell grep -ls "^def main.results" bench/understanding/*.py))

.PHONY: help demo lab test check bench results results-recipes $(PARTS:%=results-%) clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	$(BIN)/qkv train demo --out $(DEMO)
	$(BIN)/qkv evaluate $(DEMO)
	$(BIN)/qkv predict $(DEMO) transformer attention nightingale
	$(BIN)/qkv explain $(DEMO) nightingale --html $(DEMO)/attention.html
	$(BIN)/qkv ask 69 --quick
	@echo "Every layer and head: open $(DEMO)/attention.html"

lab: $(VENV)/.serve,demo
	$(BIN)/qkv lab $(LAB_ARGS)

test: check
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m bench

results: results-recipes $(PARTS:%=results-%)
	$(BIN)/python -m bench.understanding --table

results-recipes: $(VENV)/.dev
	$(BIN)/python -m bench.recipes

$(PARTS:%=results-%): results-%: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.understanding $*

clean:
	rm -rf $(VENV) build dist

# One stamp an extra: made again when pyproject.toml changes.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "qkv needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.%: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[$*]'
	@touch $@
