# make run    serves on http://127.0.0.1:8000         make test   the tests: no root, no services
# make check  format, lint, types                     make lock   requirements*.txt from pyproject.toml
# make test-fast  those of the service's own code that start no process and wait for nothing: under 40 s on two cores
# make test-slow  crowds of strangers, reloads, hang-ups of every kind of upstream, long waits
# make test-services  what needs real services: redis-server, PostgreSQL, chromium
# make soak   CALLERS=100, faults and hang-ups for MINUTES=10, and what grew meanwhile
# make bench  what it costs and holds beside its peers: ten minutes, alone on the machine; installs the peers
# make docs   the tables in docs/ whose facts the code has
# make screenshots  the pictures of the pages in docs/; needs chromium
# make prices usage/prices.json, from LiteLLM's newest list
# make check-deploy  Dockerfile, compose.yaml and the Helm chart
# make image  the Docker image         make up  with Docker Compose: PROFILES=redis,postgres,monitoring
# make doctor what is configured, reachable and wrong, and which setting mends it
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: check-deploy image secrets up bench screenshots soak run test test-fast test-slow test-again test-services check docs prices doctor lock clean

# glibc's cache of freed memory, of each of up to 1280 threads, is not returned while the thread lives. It gains nothing.
run soak: export GLIBC_TUNABLES := glibc.malloc.tcache_count=0

run: $(VENV)/.runtime
	$(BIN)/gunicorn 'app:create_app()'

# Where this is set, pytest would compile all tests anew at each start.
unexport PYTHONDONTWRITEBYTECODE

test: $(VENV)/.development
	$(BIN)/python -m pytest -q -n 4

# It leaves out what the marks in pyproject.toml say, and these folders: it is about the service's own code, without the
# real databases of the table of usage.
LONG := dialects emulators_tested papers tools usage

test-fast: $(VENV)/.development
	$(BIN)/python -m pytest -q -n 4 $(LONG:%=--ignore tests/%) \
	  -m 'not services and not slow and not deploy and not served and not thorough'

test-slow: $(VENV)/.development
	$(BIN)/python -m pytest -q -n 4 -m slow

# What failed last, alone: a bound that a busy machine missed is met then, a fault is not.
test-again: $(VENV)/.development
	$(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none -m ''

test-services: $(VENV)/.development
	$(BIN)/python -m pytest -q -m services

check: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.packages

# Dockerfile, compose.yaml, the Helm chart and the workflows, by the tools of their makers; needs no Docker and no cluster.
check-deploy: $(VENV)/.deploy
	$(BIN)/python -m pytest -q -m deploy tests/deploy

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
EXTRAS := oci aws redis postgres otel

image:
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --build-arg EXTRAS="$(EXTRAS)" -t thinkline -t thinkline:$(VERSION) .

secrets:
	sh deploy/secrets.sh

comma := ,
PROFILES ?=

# PROFILES=redis,postgres,monitoring
up: secrets
	VERSION=$(VERSION) \
	  $(if $(findstring redis,$(PROFILES)),STATE_URL_FILE=/run/secrets/state_url) \
	  $(if $(findstring postgres,$(PROFILES)),DATABASE_URL_FILE=/run/secrets/database_url) \
	  docker compose $(patsubst %,--profile %,$(subst $(comma), ,$(PROFILES))) up --build

MINUTES ?= 10
CALLERS ?= 100

soak: $(VENV)/.development
	$(BIN)/python -m tools.bench.soak --minutes $(MINUTES) --callers $(CALLERS) --plot soak.png

bench: $(VENV)/.development
	$(BIN)/python -m tools.bench.run --install --output docs/performance.json
	$(BIN)/python -m tools.bench.report
	$(BIN)/python -m tools.reference

screenshots: $(VENV)/.development
	$(BIN)/python -m tools.screenshots

docs: $(VENV)/.runtime
	$(BIN)/python -m tools.reference

prices: $(VENV)/.runtime
	$(BIN)/python -m tools.prices

doctor: $(VENV)/.runtime
	$(BIN)/python doctor.py

COMPILE = $(BIN)/pip-compile -q --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# deploy/requirements has the same versions with the hashes of their files, base and extras apart, for the image.
lock: $(VENV)/.development
	$(COMPILE) $(EXTRAS:%=--extra %) -o requirements.txt pyproject.toml
	$(COMPILE) --allow-unsafe $(EXTRAS:%=--extra %) --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
	$(COMPILE) --allow-unsafe --extra deploy -c requirements-dev.txt -o requirements-deploy.txt pyproject.toml
	$(COMPILE) --generate-hashes -c requirements.txt -o deploy/requirements/base.txt pyproject.toml
	for extra in $(EXTRAS) sbom; do \
	  $(COMPILE) --generate-hashes --extra $$extra -c requirements-dev.txt -o deploy/requirements/$$extra.txt pyproject.toml || exit; \
	done

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.development: requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/.runtime

$(VENV)/.deploy: requirements-deploy.txt $(VENV)/.development
	$(BIN)/pip install -q --disable-pip-version-check -r requirements-deploy.txt
	touch $@

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
