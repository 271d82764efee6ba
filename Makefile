# Every developer command. `make help` prints them.

PYTHON ?= python3
PORT ?= 5555

# Made on first use, kept for as long as requirements/*.txt and Python stay the same.
SETUP := $(PYTHON) -m apps.stack.bootstrap
RUN := .venv/bin/python
PYTEST := $(RUN) -m pytest

up run: export PORT := $(PORT)

.DEFAULT_GOAL := help
.PHONY: help up run worker beat test test-fast test-all lint fmt types layers docs docs-check check ci

help: ## Print this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done

up: ## Everything, from a fresh clone: Postgres, Redis, web, worker, beat, the showcase. PORT=5556 for another port.
	@$(SETUP) up manage.py up

run: ## The web process, against DATABASE_URL and REDIS_URL.
	@$(SETUP) up manage.py serve

worker: ## The worker process.
	@$(SETUP) up -m celery -A gyoza_site.celery worker -P threads -c 4 -Q gyoza,gyoza.wake --without-gossip --without-mingle --without-heartbeat -l INFO

beat: ## The beat process: starts the sweeps. One is enough.
	@$(SETUP) up -m celery -A gyoza_site.celery beat -l INFO --pidfile=

test: ## All tests but acceptance and browser, on a Postgres and Redis of their own.
	@$(SETUP) test -m pytest -m "not acceptance and not browser"

test-fast: ## Unit and architecture tests only.
	@$(SETUP) test -m pytest tests/unit tests/architecture

test-all: ## All tests, in an order of their own each time; SEED=1 for one that can be had again.
	@$(SETUP) test -m pytest $(if $(SEED),--randomly-seed=$(SEED))

lint: ## Style and mistakes: ruff.
	@$(SETUP) dev -m ruff check .
	@$(RUN) -m ruff format --check .

fmt: ## Format the code and mend what can be mended.
	@$(SETUP) dev -m ruff format .
	@$(RUN) -m ruff check --fix .

types: ## Types: mypy, strict.
	@$(SETUP) dev -m mypy

layers: ## Who imports whom: import-linter.
	@$(SETUP) dev -c "from importlinter.cli import lint_imports_command as c; c()"

docs: ## Write the generated reference pages.
	@$(SETUP) test manage.py docs

docs-check: ## Fail if a generated page is stale.
	@$(SETUP) test manage.py docs --check

check: ## Django's own checks, as for production.
	@GYOZA_BEHIND_TLS=true $(SETUP) test manage.py check --deploy --fail-level WARNING

ci: lint types layers check docs-check test-all ## What CI runs.
