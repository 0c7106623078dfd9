# Commands for contributors; `make help` lists them. ARGS= is passed to the command of a target.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
CLUSTER := PYTHONPATH=. $(BIN)/python hack/cluster.py

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Create .venv, install missing packages, prepare the offline model; immediate if it is up to date
	@hack/setup.sh

.PHONY: install-dev
install-dev: setup ## The same as setup

.PHONY: run
run: setup ## Run Imago on this machine (Ctrl-C stops it); ARGS="--port 9000 --data-dir elsewhere"
	@exec $(BIN)/imago dev $(ARGS)

.PHONY: serve
serve: setup ## Run only the API, configured by environment variables (.env.example)
	@exec $(BIN)/imago api

.PHONY: worker
worker: setup ## Run one worker, configured by environment variables; ARGS=exif, ocr or vision
	@exec $(BIN)/imago worker $(ARGS)

.PHONY: lint
lint: setup ## Check style, types and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 2

.PHONY: format
format: setup ## Format the code and fix what the linter can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: test
test: setup ## Run the default tests: unit, integration on real servers, chart, end to end
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

.PHONY: test-faults
test-faults: setup ## Break a whole installation in every way that docs/reliability.md lists; ARGS=--full for the full size
	@$(BIN)/pytest --timeout 300 tests/faults $(ARGS)

.PHONY: test-cluster
test-cluster: setup ## Test the chart, the operator and KEDA on a separate, real Kubernetes (root on Linux; see tests/cluster)
	@$(CLUSTER) prepare
	@$(CLUSTER) run $(BIN)/pytest $(if $(filter tests/%,$(ARGS)),,tests/cluster) $(ARGS)

.PHONY: test-kind
test-kind: setup ## Run the cluster tests that work on kind (needs Docker and kind)
	@if ! docker info >/dev/null 2>&1; then echo "test-kind: no Docker engine answers here" >&2; exit 1; \
	elif ! command -v kind >/dev/null; then echo "test-kind: kind is not on the PATH" >&2; exit 1; \
	else $(BIN)/pytest --cluster-name imago-test --kind-bin "$$(command -v kind)" \
	  --kind-kubectl-bin $(BIN)/kubectl tests/cluster $(ARGS); fi

.PHONY: cluster-up cluster-shell cluster-down
cluster-up: setup ## Start a Kubernetes of one node with KEDA and Imago's images, without Docker
	@$(CLUSTER) prepare
	@$(CLUSTER) up

cluster-shell: ## Open a shell that reaches that cluster, with KUBECONFIG set
	@$(CLUSTER) exec "$${SHELL:-bash}"

cluster-down: ## Stop that cluster and remove all of it
	@$(CLUSTER) down

DIR ?=
.PHONY: test-corpus
test-corpus: setup ## Send a folder of hostile files through a whole instance: DIR=folder ARGS="--mutants 4000"
	@PYTHONPATH=. $(BIN)/python -m tests.faults.corpus $(DIR) $(ARGS)

.PHONY: compare-exif
compare-exif: setup ## Compare the EXIF of a folder of camera files with exiftool, field by field: DIR=folder
	@PYTHONPATH=. $(BIN)/python -m devtools.exif_comparison $(DIR) $(ARGS)

.PHONY: evaluate
evaluate: setup ## Measure accuracy (text, tags, search, places, look-alikes) on a set that it makes; some minutes
	@rm -rf build/evaluation
	@PYTHONPATH=. $(BIN)/python -m devtools.evaluation.make_set build/evaluation
	@nice -n 5 $(BIN)/imago evaluate build/evaluation $(ARGS)

.PHONY: test-cov
test-cov: setup ## Run the default tests and show uncovered lines; htmlcov/index.html has them in the source
	@$(BIN)/pytest -n 2 --dist loadfile --cov=imago --cov-report=term-missing:skip-covered --cov-report=html $(ARGS)

.PHONY: cov
cov: test-cov ## The same as test-cov

.PHONY: measure
measure: setup ## Measure a separate instance: times of a photo, memory of the API under large uploads
	@PYTHONPATH=. $(BIN)/python hack/measure.py

.PHONY: bench-check
bench-check: setup ## Check that both systems of the benchmark start and keep the same promises
	@PYTHONPATH=. nice -n 5 $(BIN)/python -m bench --check --output build

.PHONY: bench
bench: setup ## Compare Imago with its peer (build/bench.md); ARGS="--full", "uploads reads", "--rounds 9"
	@PYTHONPATH=. nice -n 5 $(BIN)/python -m bench $(ARGS)

.PHONY: ci
ci: setup ## Run what CI runs: lint and all tests (default, faults, cluster); half an hour, 70 minutes with a cold cache
	@hack/ci.sh

.PHONY: audit
audit: setup ## Check the locked dependencies for known vulnerabilities (needs the internet); fails if one was not checked
	@$(BIN)/python hack/audit.py $(ARGS)

TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TARGETS = api worker-exif worker-ocr worker-vision operator
# Set only for images: with this variable Python makes bytecode that is checked at every import.
images: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
.PHONY: images
images: ## Build the images localhost/imago-… (needs Docker); TAG=…, ARGS="--build-arg BASE=…"
	@command -v docker >/dev/null || { echo "images: Docker is needed" >&2; exit 1; }
	@for target in $(TARGETS); do docker build --target $$target --tag localhost/imago-$$target:$(TAG) \
	  --build-arg SOURCE_DATE_EPOCH --build-arg VERSION=$(TAG) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(ARGS) .; done

.PHONY: docker-up docker-down
docker-up: ## Build the images and run Imago with PostgreSQL, NATS and S3 in Docker, at http://localhost:8000
	@command -v docker >/dev/null || { echo "docker-up: Docker is needed" >&2; exit 1; }
	@hack/compose.sh up --build --detach --wait $(ARGS)

docker-down: ## Stop it; ARGS=--volumes also deletes its data
	@command -v docker >/dev/null || { echo "docker-down: Docker is needed" >&2; exit 1; }
	@hack/compose.sh down $(ARGS)

.PHONY: chart
chart: setup ## Generate the chart's README, the schema of its values, and its copies of k8s/
	@$(BIN)/python hack/chart_files.py

.PHONY: dashboards
dashboards: setup ## Generate the Grafana dashboards in k8s/dashboards and the chart's copies
	@PYTHONPATH=. $(BIN)/python hack/dashboards.py
	@$(BIN)/python hack/chart_files.py

.PHONY: schemas
schemas: setup ## Extract the schemas that check the chart from Go modules again (needs Go)
	@$(BIN)/python hack/schemas.py

UV_COMPILE = uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
  --no-header --quiet --upgrade

.PHONY: lock
lock: ## Resolve the dependencies again into requirements/*.lock (needs uv)
	@$(UV_COMPILE) --all-extras --group dev pyproject.toml -o requirements/dev.lock
	@$(UV_COMPILE) -c requirements/dev.lock pyproject.toml -o requirements/api.lock
	@$(UV_COMPILE) -c requirements/dev.lock --extra meaning --extra embed pyproject.toml -o requirements/meaning.lock
	@$(UV_COMPILE) -c requirements/dev.lock --extra ocr --extra rapidocr pyproject.toml -o requirements/ocr.lock
	@$(UV_COMPILE) -c requirements/dev.lock --extra vision pyproject.toml -o requirements/vision.lock
	@$(UV_COMPILE) -c requirements/dev.lock --extra model pyproject.toml -o requirements/model.lock
	@$(UV_COMPILE) -c requirements/dev.lock requirements/operator.in -o requirements/operator.lock
	@$(UV_COMPILE) -c requirements/dev.lock bench/peer/requirements.in -o requirements/bench.lock
	@grep -o '^hatchling==[0-9.]*' requirements/dev.lock | $(UV_COMPILE) - -o requirements/build.lock

.PHONY: clean
clean: ## Remove .venv and the files of builds and tests, but not your data
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov
	@find services operator tests bench devtools hack -name __pycache__ -type d -prune -exec rm -rf {} +
