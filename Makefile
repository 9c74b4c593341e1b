# `make check` is what continuous integration runs before the marked tests.
PYTHON ?= python

.PHONY: check format lint types mypy pyright contracts test coverage spelling

check: lint types contracts spelling test

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: mypy pyright

mypy:
	$(PYTHON) -m mypy

pyright:
	$(PYTHON) -m pyright --pythonpath "$$(command -v $(PYTHON))"

contracts:
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as c; c()"

spelling:
	$(PYTHON) -m codespell_lib hemitwin tests docs README.md CONTRIBUTING.md CHANGELOG.md

test:
	$(PYTHON) -m pytest

coverage:
	$(PYTHON) -m pytest --cov --cov-report=term:skip-covered
