# betavae_jax: `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
JAX    ?= cpu
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(JAX)
CUDA   := $(VENV)/cuda/.ready# JAX's plugin and the compiler, without the libraries that a GPU needs

EXTRAS_cpu  := dev
EXTRAS_cuda := dev,cuda
EXTRAS      := $(EXTRAS_$(JAX))

# What becomes flags. Names as usual as these stand in many environments: only the command line counts.
GIVEN := DATASET DATA_DIR OBJECTIVE BETA SEED STEPS WORKDIR STUDY ARGS
$(foreach name,$(GIVEN),$(if $(filter environment%,$(origin $(name))),\
  $(warning ignoring $(name) of the environment: make TARGET $(name)=... gives it)$(eval override $(name) :=)))

# Each variable becomes a flag only if it is given; one that a target does not take is refused.
flag  = $(if $($1),--$2='$(subst ','\'',$($1))')
takes = $(if $(word 2,$(MAKECMDGOALS)),,$(foreach name,$(filter-out $1,$(GIVEN)),$(if $($(name)),\
        $(error expected make $@ with $(strip $1) alone; got $(name)))))
FLAGS = $(call flag,DATASET,dataset) $(call flag,DATA_DIR,data_dir) \
        $(call flag,OBJECTIVE,objective) $(call flag,BETA,beta) \
        $(call flag,SEED,seed) $(call flag,STEPS,num_steps) \
        $(call flag,WORKDIR,workdir) $(ARGS)

.PHONY: help install train sweep whitedot evaluate report test test-slow check lint format types benchmark docs docs-serve wheel-check gpu-compile clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n'; printf '%s\n' "  make train BETA=4             the white dot, to the end, with a report" \
	  "  make train BETA=1,4 SEED=0,1  four runs in one program" \
	  "  variables: BETA OBJECTIVE DATASET DATA_DIR SEED STEPS WORKDIR; ARGS='--flag=value ...'" \
	  "  JAX=cuda for NVIDIA accelerators; PYTHON=python3.12 for another interpreter"

install: $(READY)  ## make the environment in .venv

$(READY): pyproject.toml constraints.txt
	@$(if $(EXTRAS),:,echo "expected JAX to be cpu or cuda; got $(JAX)" >&2; exit 2)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "expected Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	       "Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

train: install  ## train; the same command again goes on (BETA=4, or a list)
	$(call takes,$(filter-out STUDY,$(GIVEN)))$(BIN)/python -m experiments.train $(FLAGS)

sweep: install  ## train a study: STUDY=study.toml or a name; WORKDIR=runs/NAME goes on with it
	$(BIN)/python -m experiments.sweep $(call flag,STUDY,study) $(FLAGS)

evaluate: install  ## score the runs of a directory (WORKDIR=runs/NAME ARGS=--metrics=all)
	$(call takes,WORKDIR ARGS)$(BIN)/python -m experiments.evaluate $(call flag,WORKDIR,workdir) $(ARGS)

report: install  ## write the page of a run directory again (WORKDIR=runs/NAME)
	$(call takes,WORKDIR ARGS)$(BIN)/python -m experiments.report $(call flag,WORKDIR,workdir) $(ARGS)

test: install  ## run the tests
	$(BIN)/python -m pytest

test-slow: install  ## run the tests that take longer too
	$(BIN)/python -m pytest -m "slow or not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test  ## linters, type checker, tests

format: install  ## apply the linters' corrections
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

whitedot: install  ## a plain VAE beside a β-VAE on the white dot, over seeds
	$(call takes,WORKDIR ARGS)$(BIN)/python -m experiments.whitedot $(call flag,WORKDIR,workdir) $(ARGS)

benchmark: install  ## measure speed, as ratios within one run (ARGS=--peer=torch)
	$(call takes,ARGS)$(BIN)/python -m experiments.benchmark $(ARGS)

docs: install  ## build the site of docs/ in site/, warnings being errors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: docs  ## show it, and follow changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

wheel-check: install  ## build a wheel and use it in an environment of its own
	$(BIN)/python -m pytest -n 0 -m slow tests/test_wheel.py

gpu-compile: $(CUDA)  ## compile every program for NVIDIA GPUs, which need not be there
	PYTHONPATH=$(dir $(CUDA)) JAX_PLATFORMS=cpu $(BIN)/python -m pytest --dist load tests/test_gpu_compilation.py

$(CUDA): constraints.txt | $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target $(dir $@) --constraint constraints.txt \
	  jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12
	@touch $@

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
