# `make broker` runs a broker, `make test` runs all checks and tests; both set themselves up.
# The other targets are for daily work. ARGS is handed on: make broker ARGS="--listen 0.0.0.0:9092".
.POSIX:
.PHONY: help broker test check format suite test-cluster differential exactly-once fuzz soak simulate fault-matrix kill-nine peers lock codegen reference bench clean setup setup-run

RUN = .venv-run
DEV = .venv
BIN = $(DEV)/bin

help:
	@echo "make broker      run a broker on localhost:9092 (ARGS=... for options)"
	@echo "make test        set up, lint, type-check and run all tests"
	@echo "make check       lint, types and import contracts only"
	@echo "make suite       the tests only (ARGS=... for pytest)"
	@echo "make test-cluster  clients and comparisons with Apache Kafka again, with three brokers in our place"
	@echo "make differential  random steps beside Apache Kafka (EXAMPLES=1000 SEED=...)"
	@echo "make exactly-once  read, process, write with each client under kill -9 (ROUNDS=50)"
	@echo "make fuzz        damaged requests and damaged files (SECONDS=3600 SEED=...)"
	@echo "make soak        mixed load, watched for losses and leaks (SECONDS=3600 SEED=...)"
	@echo "make simulate    a whole cluster on simulated clock, network and disks (SEED=... or COUNT=1000 JOBS=2)"
	@echo "make fault-matrix  hurts a cluster of processes, beside Apache Kafka (ROWS=kill-leader,cut-everybody ROUNDS=3)"
	@echo "make kill-nine   kill -9 under load (ROUNDS=100)"
	@echo "make bench       side by side with Apache Kafka in one run"
	@echo "make format      format the code"
	@echo "make codegen     regenerate the wire messages from Kafka's definitions"
	@echo "make reference   regenerate docs/reference from the code"
	@echo "make lock        pin the newest versions of all dependencies"

broker: setup-run
	@exec $(RUN)/bin/python -m barnabas serve $(ARGS)

setup-run:
	@sh tools/setup.sh run $(RUN)

setup:
	@sh tools/setup.sh dev $(DEV)

test: setup peers check suite

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

suite: setup
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-cluster: setup
	BARNABAS_TEST_CLUSTER=3 BARNABAS_TEST_STORE=zookeeper $(BIN)/python -m pytest tests/clients tests/oracle tests/cluster \
		--ignore=tests/oracle/log --timeout=900 $(ARGS)

differential: setup
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "SEED=$$seed"; \
	BARNABAS_DIFFERENTIAL_EXAMPLES=$${EXAMPLES:-300} $(BIN)/python -m pytest tests/oracle/test_random_steps.py tests/oracle/test_random_administration.py \
		-s -p no:randomly --hypothesis-seed=$$seed --tb=short $(ARGS)

exactly-once: setup
	ROUNDS=$${ROUNDS:-50} $(BIN)/python -m pytest tests/clients/test_exactly_once.py -s -p no:randomly --tb=short $(ARGS)

fuzz: setup
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "SEED=$$seed"; \
	exec $(BIN)/python -m tests.fuzz both --seconds $${SECONDS:-60} --seed $$seed $(ARGS)

soak: setup
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	exec $(BIN)/python -m tests.soak --seconds $${SECONDS:-600} --seed $$seed $(ARGS)

simulate: setup
	@exec $(BIN)/python -m tests.simulation $(SEED) --count $${COUNT:-1} --jobs $${JOBS:-1} $(ARGS)

fault-matrix: setup peers
	exec $(BIN)/python -m tests.fault_matrix $${ROWS:+--rows $$ROWS} --rounds $${ROUNDS:-1} --page docs/fault-matrix.md \
		--keep build/fault-matrix $(ARGS)

kill-nine: setup
	BARNABAS_KILL_ROUNDS=$${ROUNDS:-100} $(BIN)/python -m pytest tests/durability/test_kill_nine.py -s -p no:randomly --durations=1 $(ARGS)

peers: setup
	@sh tools/peers.sh

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

codegen: setup
	$(BIN)/python -m tools.codegen

reference: setup
	$(BIN)/python -m tools.reference

bench: setup peers
	$(BIN)/python -m bench $(ARGS)

lock: setup
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade pyproject.toml -o requirements/run.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --group dev pyproject.toml -o requirements/dev.lock

clean:
	rm -rf .venv .venv-run .cache build dist
