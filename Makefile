# Two commands need nothing but Python and make:  make demo  and  make test.
# Everything they install goes to .venv; a changed pyproject.toml installs again.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# Byte code once, at installation, as pip does it for all but editable installs: where Python may not
# write it (PYTHONDONTWRITEBYTECODE), `import flowc` would take 0.4 s instead of 0.25 s.
COMPILE = $(BIN)/python -m compileall -q compiler ir backends runtime

.PHONY: help demo test lint types large bless bench fuzz mutants clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     build, train and run a few programs"
	@echo "make test     run every test (ARGS='-k name' selects, WORKERS=$(WORKERS) processes)"
	@echo "make lint     ruff"
	@echo "make types    mypy --strict"
	@echo "make bless    bring package list, generated documents, file tests up to date"
	@echo "make large    graphs of 50,000 operations: time and memory, printed"
	@echo "make bench    the benchmarks, printed"
	@echo "make fuzz     800 random programs, each op and element type at least 20 times"
	@echo "make mutants  break passes and code generators on purpose; the tests must notice"
	@echo "make clean    remove .venv and everything that was built"

demo: .venv/demo.stamp
	$(BIN)/python examples/demo.py $(ARGS)

test: .venv/test.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: .venv/test.stamp
	$(BIN)/python -m ruff check .

types: .venv/test.stamp
	$(BIN)/python tests/typing/link.py --check
	$(BIN)/python -m mypy

large: .venv/test.stamp
	$(BIN)/python -m pytest tests/large --large -s $(ARGS)

bless: .venv/test.stamp
	$(BIN)/python tests/house/tidy.py
	$(BIN)/python -m pytest -q --bless tests/docs tests/ir/test_docs.py tests/flow $(ARGS)

bench: .venv/demo.stamp
	@for file in benchmarks/[!_]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

fuzz: .venv/test.stamp
	$(BIN)/python tests/fuzz/run.py --seeds 800 --least 20 $(ARGS)

mutants: .venv/test.stamp
	$(BIN)/python tests/mutants/run.py $(ARGS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[examples,link]'
	@$(COMPILE)
	@touch $@

.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test,examples]'
	@$(COMPILE)
	@touch $@

clean:
	rm -rf .venv build dist out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
