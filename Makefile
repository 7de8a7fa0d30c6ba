# Front doors. Each sets up what it needs by itself: virtual environment, pinned packages, Coq from Debian.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STRICT ?=
export STRICT

.PHONY: help verify test experiments declare judge scaling figures import-results mutants outside bench bench-training data dist lint package golden clean setup coq site chromium

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

verify: $(STAMP) coq ## check every claim: symbolic, numeric, Coq, real adapters (STRICT=1: not checked fails too)
	@$(BIN)/python -m empirical verify

# fresh memory holds large numbers (glibc): what is read before it is written fails each time, not once in a while
test: $(STAMP) coq chromium ## the test suite
	@MALLOC_PERTURB_=128 $(BIN)/python -m pytest

experiments: $(STAMP) ## train, reuse, judge (EXPERIMENT= PROFILE=smoke|cpu|gpu|auto METHOD=file.py:function WORKERS= BUDGET=min DRY=1 ENGINE=local|ray ADDRESS= SEQUENTIAL=1)
	@$(if $(SEQUENTIAL),SEQUENTIAL=$(SEQUENTIAL)) $(BIN)/python -m empirical run --profile $(or $(PROFILE),auto) \
	  $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(if $(METHOD),--method $(METHOD)) $(if $(WORKERS),--workers $(WORKERS)) \
	  $(if $(BUDGET),--budget $(BUDGET)) $(if $(DRY),--dry-run) $(if $(ENGINE),--engine $(ENGINE)) $(if $(ADDRESS),--address $(ADDRESS))

scaling: $(STAMP) ## the tables of bench/scaling.md, from the committed results
	@$(BIN)/python bench/scaling.py --write

judge: $(STAMP) ## hold the committed results against the predictions
	@$(BIN)/python -m empirical judge

declare: $(STAMP) ## write down what is predicted and what would refute it, before a run (EXPERIMENT= PROFILE=smoke|cpu|gpu)
	@$(BIN)/python -m empirical declare --profile $(or $(PROFILE),cpu) $(if $(EXPERIMENT),--experiment $(EXPERIMENT))

figures: $(STAMP) ## predicted and measured in build/figures/, from the committed results (PROFILE=smoke|cpu|gpu|auto)
	@$(BIN)/python -m empirical figures --profile $(or $(PROFILE),auto)

data: $(STAMP) ## the tasks as JSON Lines with data cards in build/data/ (SEED=)
	@$(BIN)/python -m empirical data --seed $(or $(SEED),0) --card docs/data-card.md

import-results: $(STAMP) ## unpack ARCHIVE=file.tar.gz from another machine; every record is verified by its hash
	@$(BIN)/python -m empirical import-results "$(ARCHIVE)"

mutants: $(STAMP) ## change every bound, step and assumption in turn; no change may survive (CLAIM=id CHANGED=1|commit BUDGET=min KIND='value guard ..')
	@$(BIN)/python -m theory mutants $(if $(CLAIM),--claim $(CLAIM)) $(if $(CHANGED),--changed $(filter-out 1,$(CHANGED))) \
	  $(if $(BUDGET),--budget $(BUDGET)) $(foreach k,$(KIND),--kind $(k))

paper: $(STAMP) coq ## build/paper/lora-limits.pdf; verifies first where the verification is missing or stale
	@sh tools/tex.sh
	@$(BIN)/python -m paper.evidence || $(BIN)/python -m empirical verify
	@$(BIN)/python -m paper.generate
	@mkdir -p build/paper && cd paper && max_print_line=1000 latexmk -pdf -interaction=nonstopmode -halt-on-error \
	  -file-line-error -outdir=../build/paper -jobname=lora-limits main.tex >../build/paper/latexmk.txt 2>&1 \
	  || { grep -E '^(\./|!)' ../build/paper/latexmk.txt >&2; echo "paper: LaTeX stopped (build/paper/latexmk.txt)" >&2; exit 1; }
	@$(BIN)/python -m paper.lint --built
	@echo "written: build/paper/lora-limits.pdf"

site: $(STAMP) coq ## build/site/index.html, the same material as one page; verifies first where that is missing or stale
	@$(BIN)/python -m paper.evidence || $(BIN)/python -m empirical verify
	@$(BIN)/python -m paper.site

# one BLAS thread for NumPy, which is fastest for narrow factors; torch, and so peft, keeps all of its threads
outside: $(STAMP) ## what others have published or released against what is said here (MERGING= LTE= KNOTS= CORE_SPACE=checkouts)
	@$(foreach v,MERGING LTE KNOTS CORE_SPACE,$(if $($v),$v=$($v))) PYTHONPATH=. $(BIN)/python tools/outside.py

bench: $(STAMP) ## the kernels against peft's dense path, the chains against one SVD, in one run
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest bench -s --benchmark-only --benchmark-columns=min,median,rounds

bench-training: $(STAMP) ## many adapters at once against one by one with peft; takes the result into docs/training.md
	@$(BIN)/python bench/training.py --write

dist: $(STAMP) ## wheel and sdist in build/dist/
	@$(BIN)/python tools/dist.py

lint: dist ## ruff, mypy, and what the wheel holds
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/check-wheel-contents build/dist/*.whl

package: dist ## the wheel in empty environments outside the checkout: what works, what is said where something is absent
	@$(BIN)/python tools/try_wheel.py build/dist/*.whl

golden: $(STAMP) ## write statements.v, what Coq prints for it, for definitions and Examples, and the tables in README, docs, bench and LOG.md; review the difference
	@$(BIN)/python -m theory statements --write
	@$(BIN)/python -m empirical.engine.summary --write
	@$(BIN)/python -m empirical.engine.quotes --write
	@$(BIN)/python -m empirical.reuse --write
	@$(BIN)/python -m empirical log
	@$(BIN)/python bench/scaling.py --write

setup: $(STAMP) coq ## only the set-up

clean: ## remove what was built (the virtual environment stays)
	@$(MAKE) -s -C proofs clean
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(STAMP): pyproject.toml constraints.txt
	@sh tools/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

coq:
	@sh tools/coq.sh

chromium:
	@sh tools/chromium.sh
