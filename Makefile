# Two commands for a newcomer: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-plain fuzz test-demo test-interop test-faults test-failover test-truth test-fleet test-statistics test-capacity test-nightly lint setup compiled lock bench protos

setup: compiled

# An environment of its own with the locked dependencies and the package: folder, Python.
define install
	test -x $(1)/bin/python || $(2) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(1)/bin/python -m pip check
	touch $(1)/.installed
endef

$(STAMP): requirements.lock pyproject.toml
	$(call install,.venv,$(PYTHON))

# The engine's hot modules as machine code, which is there after a moment unless the source has
# changed. Where it cannot be made (no C compiler: 3) engines run as plain Python, and say so.
compile = $(1)/bin/python -m loadtests.compiled || test $$? = 3

compiled: $(STAMP)
	$(call compile,.venv)

demo: compiled
	$(BIN)/headroom demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What starts real processes waits most of its time: two at a time, a file in one piece. On a machine
# whose cores others use too, what failed is run again on its own (tests/tried_again.sh).
# The suites that take minutes each are targets of their own.
REAL := tests/tried_again.sh $(BIN)/python
LONGER := fuzz or nightly or faults or failover or fleet or interop or demo or statistics or capacity
test: lint compiled
	$(BIN)/python -m pytest -m "not system and not ($(LONGER))" \
	  --numprocesses auto --dist worksteal
	$(REAL) -m "system and not ($(LONGER))" \
	  --numprocesses 2 --dist loadfile

# What `test` has run compiled, as plain Python: the engine's own tests.
test-plain: $(STAMP)
	HEADROOM_PLAIN=1 $(BIN)/python -m pytest tests/engine -m "not ($(LONGER))" \
	  --numprocesses 2 --dist loadfile

# The demo as a newcomer runs it, to its end, and nothing left behind.
test-demo: compiled
	$(REAL) -m demo

# The engine against servers and a client that share no code with it: grpcio, grpc-js, Go, nginx,
# HAProxy, nghttpd. What is not installed is skipped, and said; grpc-js comes from npm.
test-interop: compiled
	$(REAL) -m interop -rs

# Kills, stops and starves real runs under every loss policy; minutes, so apart from `test`.
test-faults: compiled
	$(REAL) -m faults

# Faults on real systems (50 kills of the harness, the embedded cluster behind HAProxy, etcd), two
# files at a time, as they mostly wait. What is not installed or not allowed is skipped, and said.
test-failover: compiled
	$(REAL) -m failover -k "not recovery_truth" -rs --numprocesses 2 --dist loadfile

# Outages known to the millisecond, measured: beside nothing else, on a machine that stands still
# for less than a bin.
test-truth: compiled
	$(BIN)/python -m pytest -m failover -k recovery_truth -rs

# Masters, agents and targets on hosts of their own (network namespaces, which take root's rights):
# links are cut, masters stopped, killed and resumed. Where that is not permitted, skipped, and said.
test-fleet: compiled
	$(REAL) -m fleet -rs

# What the statistics reach, simulated at length: false alarms, shifts found, coverage of
# intervals, how often the bounds of a search hold the truth.
test-statistics: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m statistics -rP --numprocesses auto --dist worksteal

# A million hostile messages on the control channel, while runs go on.
fuzz: compiled
	$(BIN)/python -m pytest -m fuzz

# Searches the embedded cluster's limit for real, and stops one half-way.
test-capacity: compiled
	$(REAL) -m capacity

# A real night from canary to message, nights that are stopped and killed, and what compose.yaml
# starts, in a network namespace.
test-nightly: compiled
	$(REAL) -m nightly -rs

# Side by side with wrk, hey, h2load, Locust and Python's gRPC clients; half an hour on a quiet machine.
# On the system's Python, in an environment of its own: how an interpreter was built matters as much
# as what runs on it (README, "Which Python").
# `make bench BENCH_PYTHON=python3.13` takes another, in an environment of that name.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c "$(NEW_ENOUGH)" 2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
BENCH := .venv-bench$(subst /,-,$(BENCH_PYTHON))
bench: $(BENCH)/.installed
	$(call compile,$(BENCH))
	$(BENCH)/bin/python -m benchmarks $(ARGS)

$(BENCH)/.installed: requirements.lock pyproject.toml
	$(BENCH_PYTHON) -c "import ensurepip" || test $(BENCH_PYTHON) != /usr/bin/python3 || apt-get install -y python3-venv
	$(call install,$(BENCH),$(BENCH_PYTHON))

# Writes the Python messages of protos/; a test fails when they are not those of the .proto files.
GENERATED := loadtests/cluster/generated
protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=$(GENERATED) --pyi_out=$(GENERATED) \
	  protos/*.proto

# Pins every dependency, with hashes, for all supported Pythons at once.
lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-emit-index-url --no-header --quiet pyproject.toml build-requirements.in -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --constraint requirements.lock --no-emit-index-url --no-header --quiet \
	  pyproject.toml build-requirements.in -o deploy/requirements.lock
