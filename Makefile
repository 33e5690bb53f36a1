PYTHON ?= python3.11
BIN := .venv/bin
SAMPLE := .reindex/sample
CORPUS := $(if $(DOCS),my-docs,python-docs)
FOLDER := $(or $(DOCS),$(SAMPLE))
QUESTION ?= $(if $(DOCS),what is this about?,how do I parse json)

.PHONY: help setup demo up down test compose-test bench lint check format reference

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

setup: .venv/installed  ## make a virtual environment from the pinned requirements

.venv/installed: requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --requirement requirements.txt --requirement requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup  ## start the stack, index Python's documentation (or DOCS=/some/folder), and ask a question
	$(BIN)/reindex up
	$(if $(DOCS),,PYTHONHASHSEED=0 $(BIN)/python -m reindex.sample_corpus $(SAMPLE))
	$(BIN)/reindex put $(CORPUS) "$(FOLDER)"
	$(BIN)/reindex run $(CORPUS)
	$(BIN)/reindex search $(CORPUS) "$(QUESTION)" -k 3
	$(BIN)/reindex status

up: setup  ## start the embedded stack
	$(BIN)/reindex up

down:  ## stop the embedded stack; what it holds stays
	$(BIN)/reindex down

test: setup  ## run every test; the live ones start a stack of their own
	$(BIN)/pytest

compose-test: setup  ## bring docker-compose.yaml up on a Docker daemon of its own, and try it; root, Debian, 20 minutes
	tests/compose/run

bench: setup .bench/llamaindex/installed  ## measure every claim of speed, beside LlamaIndex too; an hour and a half
	$(BIN)/python benchmarks/all.py

.bench/llamaindex/installed: benchmarks/requirements-llamaindex.txt
	$(PYTHON) -m venv .bench/llamaindex
	.bench/llamaindex/bin/pip install --quiet --requirement benchmarks/requirements-llamaindex.txt
	touch $@

lint: setup  ## say what the formatter, the linter and the types have against the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint  ## that, and the tests that need no server
	$(BIN)/pytest --quiet -m "not airflow and not live"

format: setup  ## format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: setup  ## write docs/corpus.md anew from the settings
	$(BIN)/python -m reindex.corpus_reference > docs/corpus.md
