# make serve | test | test-all | test-gpu | lint | docs | clean. Needs python3 (3.11 or newer) and make; the rest goes to .venv.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# Test processes at a time.
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXAMPLES := $(patsubst %/pyproject.toml,%,$(wildcard examples/plugins/*/pyproject.toml))
MEMBERS := core/pyproject.toml $(wildcard plugins/*/pyproject.toml)
# torch without CUDA is a tenth of the size; Linux machines without an NVIDIA driver get it from here.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: serve test test-all test-gpu lint docs clean

serve: $(VENV)/.serve
	@$(BIN)/hookline serve --host $(HOST) --port $(PORT) $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu" $(ARGS)

test-all: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --hypothesis-profile=random $(ARGS)

# On a machine with a GPU: four processes compile kernels side by side, each engine with a part of the memory.
test-gpu: $(VENV)/.test
	HOOKLINE__CACHE__MEMORY_FRACTION=0.15 $(BIN)/python -m pytest -n 4 --dist loadfile -m "gpu and not slow" $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# One by one: the tests of every example are called `tests`.
	@for example in $(EXAMPLES); do echo "mypy $$example"; MYPYPATH=$$example $(BIN)/mypy $$example || exit 1; done

# Pages in build/site; a link that leads nowhere fails.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build/site .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "install the venv module (on Debian: apt install python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.torch: $(VENV)/.venv constraints.txt
	@if [ "$$(uname -s)" = Linux ] && [ ! -e /proc/driver/nvidia/version ]; then \
		echo "installing torch for CPU"; \
		$(PIP) install -q --no-deps --retries 1 --timeout 30 -c constraints.txt --index-url $(TORCH_CPU_INDEX) torch || \
		echo "$(TORCH_CPU_INDEX) does not answer; torch comes from the default index"; \
	fi
	@touch $@

$(VENV)/.serve: $(VENV)/.torch requirements.txt constraints.txt $(MEMBERS)
	@echo "installing Hookline into $(VENV)"
	@$(PIP) install -q -c constraints.txt hatchling editables
	@$(PIP) install -q -c constraints.txt --no-build-isolation -r requirements.txt
	@touch $@

$(VENV)/.test: $(VENV)/.serve requirements-dev.txt
	@echo "installing the test tools into $(VENV)"
	@$(PIP) install -q -c constraints.txt --no-build-isolation -r requirements-dev.txt
	@touch $@
