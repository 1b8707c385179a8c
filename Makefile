# Every target that needs Python sets up .venv first. `make help` lists the targets.

CORPUS ?= demo
ARGS ?=
EXTRAS ?= dev,demo,lora,serve,server

# Benchmarks of `make bench`: about half an hour, or hours.
BENCH ?= short
BENCH_short := startup predict bulk features doctor manifest tpe distillation
BENCH_all := $(BENCH_short) first_hour prepare overhead tracking throughput kills quality

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRAS)
STORE = MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"

# LOCKED=no installs from the ranges of pyproject.toml. TORCH_INDEX: one more package index, for a torch without CUDA.
LOCK := requirements.lock
LOCKED ?= yes
TORCH_INDEX ?=
PIP = $(BIN)/python -m pip --disable-pip-version-check
WHAT = $(if $(filter no,$(LOCKED)),,--constraint $(LOCK)) $(if $(TORCH_INDEX),--extra-index-url '$(TORCH_INDEX)') \
	--editable '.[$(EXTRAS)]'
FIND_UV = command -v uv || { $(PIP) install --quiet --only-binary :all: uv >&2 && echo $(BIN)/uv; }
# uv does not read pip's configuration: its indexes become options; the newest version of all indexes counts, as for pip.
UV_INDEXES = --index-strategy unsafe-best-match $$($(PIP) config list | \
	sed -n 's/^[^=]*[.]\(extra-\)*index-url=/--\1index-url=/p' | sed 's/\\n/ /g' | tr '\n' ' ')

.DEFAULT_GOAL := help
.PHONY: always help setup lock tune test check ui promote mlflow-server serve bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: CORPUS=$(CORPUS) (tune), ARGS (tune, test, bench, ui, lock); setup: PYTHON, EXTRAS, TORCH_INDEX, LOCKED"

setup: $(INSTALLED) ## Create .venv with all dependencies, if it is missing or older than the list of them

# The stamp is written last, after a complete installation. An environment whose pip fails is replaced.
$(INSTALLED): pyproject.toml $(LOCK) $(if $(filter no,$(LOCKED)),always)
	@rm -f $@
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PIP) list >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV): a few minutes the first time"
	@{ uv=$$($(FIND_UV)) && eval "$$uv pip install --quiet --python $(BIN)/python --compile-bytecode $(UV_INDEXES)" "$(WHAT)"; } || \
		{ echo "uv is not available or failed: pip installs, which takes longer"; $(PIP) install --quiet $(WHAT); }
	@touch $@

always:

lock: ## Write requirements.lock, the versions that setup installs: ARGS="--upgrade" for the newest ones
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@uv=$$($(FIND_UV)) && eval "$$uv pip compile --quiet $(UV_INDEXES)" --universal --all-extras --python-version 3.11 \
		--no-annotate --custom-compile-command "'make lock'" $(ARGS) --output-file $(LOCK) pyproject.toml

tune: $(INSTALLED) ## Tune a teacher, then a student distilled from it: make tune CORPUS=ravdess ARGS="--minutes 30"
	$(BIN)/ser tune --corpus "$(CORPUS)" $(ARGS)

test: $(INSTALLED) ## Run the tests, in two processes
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

check: $(INSTALLED) ## Check style, types, layers and published figures
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.benchmarks.published --check

ui: $(INSTALLED) ## Open the MLflow UI on this folder's runs
	$(BIN)/ser ui $(ARGS)

promote: $(INSTALLED) ## Make the candidates the champions, if they pass the promotion gates
	$(BIN)/ser models promote --all

mlflow-server: $(INSTALLED) ## Run an MLflow server for several users, on 127.0.0.1:5000, with a password
	$(BIN)/ser tracking server $(ARGS)

serve: $(INSTALLED) ## Serve the champion student over HTTP on 127.0.0.1:5001
	@echo "Try: curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json'" \
		"-d '{\"dataframe_records\": [{\"path\": \"FILE.wav\"}]}'"
	$(STORE) $(BIN)/uvicorn --factory ser_platform.tracking.scoring_app:make_app --host 127.0.0.1 --port 5001

bench: $(INSTALLED) ## Run the tests marked slow, then benchmarks: BENCH=short (default), all, or a name
	$(BIN)/python -m pytest -q -m slow
	for name in $(or $(BENCH_$(BENCH)),$(BENCH)); do $(BIN)/python -m tests.benchmarks.$$name $(ARGS) || exit 1; done

clean: ## Remove build and tool caches; runs/, mlruns/ and mlflow.db stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
