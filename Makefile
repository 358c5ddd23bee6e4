# Needs Python 3.11 or newer, make and a package index; each target makes the environment it uses.

PYTHON ?= python3
DATA ?= digits
SECONDS ?= 60
SEED ?= 0
JOBS ?= auto
FILE ?= tests
ifeq ($(filter digits flowers,$(DATA)),)
$(error DATA=$(DATA) is not known; say DATA=digits or DATA=flowers)
endif

# Where Python puts the programs of an environment.
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
TEST := .venv-test/$(BIN)
DEMO := .venv-demo/$(BIN)
RUNTIME := .venv-runtime/$(BIN)
CLUSTER_TESTS := tests/fic/data/test_remote.py tests/fic/cache/test_remote.py tests/fic/test_object_storage.py \
    tests/fic/bottlenecks/test_single_reading.py tests/fic/distributed tests/examples/test_cluster.py
SOURCES := $(shell find fic export runtime -name '*.py')

.PHONY: help demo demo-digits demo-flowers demo-export demo-predict test check test-slow
.PHONY: test-runtime test-runtime-oldest test-cluster test-web fuzz lint docs clean python

help: ## say what the targets are
	@echo "make TARGET [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

# --- demo: from pictures to a prediction without TensorFlow --------------------------------------

demo: demo-predict ## train on handwritten digits, export, predict; DATA=flowers: on photos

demo-digits: .venv-demo/installed
	@echo; echo "# Real handwriting, as one folder of pictures per class"
	$(DEMO)/python examples/digits.py demo/digits
	@echo; echo "# Train on the bottlenecks of the default base; digits are small and fill their pictures"
	$(DEMO)/fic train --data demo/digits --val-split 0.2 --image-size 96 --resize stretch \
	    --bottleneck-dir demo/bottlenecks --out demo/digits-run

demo-flowers: .venv-demo/installed
	@echo; echo "# 3670 photos of five kinds of flowers (229 MB; run again to go on after an interruption)"
	$(DEMO)/fic data fetch flowers --out demo
	@echo; echo "# Train on the bottlenecks of the default base, whose ImageNet weights came with fic"
	$(DEMO)/fic train --data demo/flowers --val-split 0.2 \
	    --bottleneck-dir demo/bottlenecks --out demo/flowers-run

demo-export: demo-$(DATA)
	@echo; echo "# Export: two ONNX graphs and all that a device needs to know, compared with Keras"
	$(DEMO)/fic export demo/$(DATA)-run --out demo/$(DATA)-bundle

demo-predict: demo-export .venv-runtime/installed
	@echo; echo "# Predict where there is no TensorFlow"
	! $(RUNTIME)/python -c "import tensorflow" 2> demo/no-tensorflow.txt
	@tail -n 1 demo/no-tensorflow.txt
	$(RUNTIME)/fic-runtime selftest demo/$(DATA)-bundle
	$(RUNTIME)/fic-runtime predict demo/$(DATA)-bundle \
	    $$(for class in demo/$(DATA)/*/; do ls -d "$$class"*.[jp][pn]g | head -n 1; done)
	@echo; echo "Have a look at demo/$(DATA)-run/report.html and at demo/$(DATA)-bundle."

# --- tests ---------------------------------------------------------------------------------------

# Stolen work keeps the order of the files, so that what their tests share is made once or twice.
test: lint ## check style and types, run the tests on all cores; JOBS=2: on two
	$(TEST)/pytest -n $(JOBS) --dist worksteal -m "not all_bases and not crash and not slow"

check: .venv-test/installed ## run some tests in one process: FILE=tests/fic/cache, K=resume for a feature
	$(TEST)/pytest $(FILE) $(if $(K),-k "$(K)") -m "not all_bases and not crash and not slow"

test-slow: JOBS = 2# a large base takes gigabytes
test-slow: .venv-test/installed ## run the tests of every base, and those that kill processes; JOBS=2 at once
	$(TEST)/pytest -n $(JOBS) -m "all_bases or crash or slow"

test-runtime: .venv-runtime-test/installed ## run the runtime's tests where only the runtime is installed
	.venv-runtime-test/$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/runtime

test-runtime-oldest: .venv-oldest/installed ## the same with the oldest libraries that it takes (Python 3.11 or 3.12)
	.venv-oldest/$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/runtime

test-cluster: .venv-cluster/installed ## test extraction on Ray, and pictures and caches in object storage
	.venv-cluster/$(BIN)/python -m pytest $(CLUSTER_TESTS)

test-web: .venv-test/installed ## build the page with npm and test it in Chromium; on Debian root gets both
	tests/web/setup.sh
	$(TEST)/pytest tests/web

fuzz: .venv-fuzz/installed ## look for inputs that break the runtime or the reading of data sets; SECONDS=60 for each target, SEED=0 at random
	PYTHONPATH=.:export .venv-fuzz/$(BIN)/python fuzz/run.py --seconds $(SECONDS) --seed $(SEED)

lint: .venv-test/installed ## check style and types only
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .
	$(TEST)/mypy

# --- documentation -------------------------------------------------------------------------------

# Material for MkDocs prints a notice on every build that it ends in 2027; docs/why/layout.md knows.
docs: .venv-docs/installed ## build the site in site/, strictly; see site/index.html
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=docs:.:export:runtime .venv-docs/$(BIN)/python -m mkdocs build --strict
	@! grep -rlE '<(script|img|iframe)[^>]* src="(https?:)?//|rel="?stylesheet"? href="(https?:)?//' site \
	    --include='*.html' || { echo "these pages load something from another host" >&2; exit 1; }

# --- environments --------------------------------------------------------------------------------

# Both paths in one command: fic needs the fic-runtime of this checkout, not one from an index.
.venv-demo/installed: $(SOURCES) pyproject.toml runtime/pyproject.toml | python
	@echo "# An environment with fic; TensorFlow is large, so this takes some minutes"
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/pip install --quiet ./runtime . scikit-learn
	@touch $@

.venv-runtime/installed: $(SOURCES) runtime/pyproject.toml | python
	@echo; echo "# An environment with fic-runtime only, as on the device"
	$(PYTHON) -m venv .venv-runtime
	$(RUNTIME)/pip install --quiet ./runtime
	@touch $@

.venv-test/installed: pyproject.toml runtime/pyproject.toml | python
	$(PYTHON) -m venv .venv-test
	$(TEST)/pip install --quiet -e ./runtime -e ".[dev]"
	@touch $@

# What is large and needs few versions first: all at once is more than pip's resolver finds its way in.
.venv-cluster/installed: pyproject.toml runtime/pyproject.toml | python
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/$(BIN)/pip install --quiet "moto[server]" s3fs ray pytest pyyaml jsonschema kubernetes-validate
	.venv-cluster/$(BIN)/pip install --quiet -e ./runtime -e ".[ray,remote]"
	@touch $@

.venv-docs/installed: pyproject.toml | python
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c 'import tomllib; \
	    extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	    print(*extras["docs"], sep="\n")' > .venv-docs/requirements.txt
	.venv-docs/$(BIN)/pip install --quiet --requirement .venv-docs/requirements.txt
	@touch $@

.venv-runtime-test/installed: $(SOURCES) runtime/pyproject.toml | python
	$(PYTHON) -m venv .venv-runtime-test
	.venv-runtime-test/$(BIN)/pip install --quiet ./runtime pytest pytest-xdist
	@touch $@

.venv-fuzz/installed: $(SOURCES) runtime/pyproject.toml | python
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/$(BIN)/pip install --quiet ./runtime pillow h5py click
	.venv-fuzz/$(BIN)/pip install --quiet --only-binary=:all: atheris || echo "atheris has no wheel for this Python"
	@touch $@

.venv-oldest/installed: $(SOURCES) runtime/pyproject.toml | python
	$(PYTHON) -m venv .venv-oldest
	sed -n '/^dependencies = \[/,/^\]/ s/^ *"\(.*\)>=\(.*\)",.*/\1==\2.*/p' runtime/pyproject.toml \
	    > .venv-oldest/oldest.txt
	.venv-oldest/$(BIN)/pip install --quiet ./runtime pytest pytest-xdist --constraint .venv-oldest/oldest.txt
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "fic needs Python 3.11 or newer and $(PYTHON) is not; say make PYTHON=python3.12" >&2; exit 1; }

clean: ## remove what the other targets made
	rm -rf demo dist runtime/dist build .venv-demo .venv-runtime .venv-test .venv-runtime-test .venv-oldest .venv-fuzz .fuzz
	rm -rf .venv-docs .venv-cluster site
	rm -rf runtime/web/node_modules runtime/web/dist runtime/html/fic_runtime_html/built runtime/html/dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache
