# Two commands do everything: make demo, make test.
# A python3 will do where it is one of the two versions that the pins are for.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || \
	python3 -c 'import sys; sys.version_info[:2] in [(3, 11), (3, 12)] and print(sys.executable)' \
	2>/dev/null)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-faults chaos soak scale lint types contracts bench phantom schema clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        explain a phantom X-ray, end to end, and write out/demo/"
	@echo "make demo IMAGE=x.dcm PROMPT=\"...\" KEYWORD=...   the same for a file of yours"
	@echo "make demo STUDY=folder PROMPT=\"...\"            the same for a study: a folder or a zip file"
	@echo "make demo OPEN=no                  the same, and opens no browser"
	@echo "make demo SERVE=yes                keeps its page up until Ctrl-C, also where there is no screen"
	@echo "make test        run all tests"
	@echo "make test-faults REPEAT=20   break everything around a job, 20 times, and write out/faults.md"
	@echo "make chaos       everything goes wrong at once for 10 minutes; is any job lost or doubled?"
	@echo "make soak        does a worker keep its memory, files and threads over 2,000 jobs?"
	@echo "make scale       64 workers with a stub for a model: throughput, Redis, shards, lanes; 25 minutes"
	@echo "make bench       print the figures that the README quotes"
	@echo "make phantom     train the phantom model again (15 minutes on 2 cores)"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and neither is on PATH."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[worker,dicom,embedded,web,otel,dev]"
	@touch $@

# The shell reads the variables itself, so quotes in a prompt stay what they are.
demo: export IMAGE := $(value IMAGE)
demo: export STUDY := $(value STUDY)
demo: export PROMPT := $(value PROMPT)
demo: export KEYWORD := $(value KEYWORD)
demo: $(READY)
	@$(BIN)/medgemma-explainer demo $${IMAGE:+--image "$$IMAGE"} $${STUDY:+--study "$$STUDY"} $${PROMPT:+--prompt "$$PROMPT"} $${KEYWORD:+--keyword "$$KEYWORD"} $(if $(filter no,$(OPEN)),--no-open) $(if $(filter yes,$(SERVE)),--serve)

# Two files at a time, and one thread of torch for each: two threads for each, on two cores, wait for
# one another so long that a test of 30 seconds once took over 300.
test: export OMP_NUM_THREADS := 1
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# BESIDE=2 runs two sets beside each other.
REPEAT ?= 1
BESIDE ?= 0
test-faults: $(READY)
	$(BIN)/python -m pytest -p tests.faults.repeat -n $(BESIDE) --repeat $(REPEAT) --summary out/faults.md tests/faults

# CONDITIONAL=no commits by the lock in Redis, as before a store without conditional puts.
SECONDS ?= 600
JOBS ?= 2000
WORKERS ?= 3
SEED ?= 1
chaos: $(READY)
	$(BIN)/python -m tests.faults.chaos --seconds $(SECONDS) --jobs $(JOBS) --workers $(WORKERS) --seed $(SEED) $(if $(filter no,$(CONDITIONAL)),--no-conditional)

# Memory of a worker's parent and child over 2,000 phantom jobs; some 5 minutes.
soak: $(READY)
	$(BIN)/python benchmarks/soak.py

# 64 workers without torch take some 5 GB, and two cores up to a minute to start them. A figure that
# is missed ends none of the others.
scale: $(READY)
	-$(BIN)/python benchmarks/scale.py
	-$(BIN)/python benchmarks/queued.py
	-$(BIN)/python benchmarks/shards.py
	-$(BIN)/python benchmarks/lanes.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

# A figure that is missed ends none of the others: peaks.py says so of the mass.
bench: $(READY)
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python -m medgemma_worker.phantom.check
	-$(BIN)/python benchmarks/peaks.py
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/overhead.py

phantom: $(READY)
	$(BIN)/python -m medgemma_worker.phantom.train
	$(BIN)/python -m medgemma_worker.phantom.check

schema: $(READY)
	$(BIN)/python -m medgemma_tasks.schema

clean:
	rm -rf .venv out dist build
