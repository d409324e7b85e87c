# cxrguard. Plain pip and a pinned constraints file, so that a fresh machine gets what was tested.
PYTHON ?= python3.11
VENV ?= .venv
# Another build of torch, e.g. make install TORCH_INDEX=https://download.pytorch.org/whl/cu128
TORCH_INDEX ?=
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# The demo's two runs share the cores.
HALF := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 3 ? n / 2 : 1)))
export OMP_NUM_THREADS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint typecheck bench base-model gpu-check clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv and install everything pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## fine-tune the tiny model on phantoms with canaries, without a guard and with one: outputs/demo/report.html
	rm -rf outputs/demo
	OMP_NUM_THREADS=$(HALF) $(BIN)/python train.py -m experiment=demo guard=off,enforce hydra.sweep.dir=outputs/demo \
		hydra/launcher=joblib hydra.launcher.n_jobs=2

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest

lint: $(STAMP) typecheck ## ruff, import rules and types
	$(BIN)/ruff check .
	$(BIN)/lint-imports

typecheck: $(STAMP) ## mypy --strict
	$(BIN)/mypy

bench: $(STAMP) ## speed, each a ratio in one run
	$(BIN)/python benchmarks/bench_probes.py
	$(BIN)/python benchmarks/bench_sanitizer.py
	$(BIN)/python benchmarks/bench_score.py
	$(BIN)/python benchmarks/bench_training.py
	$(BIN)/python benchmarks/bench_memory.py

base-model: $(STAMP) ## train the shipped tiny model again, on phantoms only, into outputs/base_model (about 25 minutes)
	$(BIN)/python -m cxrguard.diffusion.base_vae --minutes 12 --out outputs/base_model/vae
	$(BIN)/python -m cxrguard.diffusion.base_model --minutes 10 --patients 4000 --vae outputs/base_model/vae --out outputs/base_model/tiny

gpu-check: $(STAMP) ## on a GPU: what an SD-1.5-size model costs, and a short run; without one it says so
	$(BIN)/python benchmarks/gpu_check.py
	if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then $(BIN)/python train.py experiment=demo \
		trainer.accelerator=gpu trainer.precision=bf16-mixed trainer.max_steps=100 hydra.run.dir=outputs/gpu_check; fi

clean: ## remove outputs, caches and the environment
	rm -rf $(VENV) outputs multirun .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
