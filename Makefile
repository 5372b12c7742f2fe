# One command before every commit: `make check`. CI runs the tests with the same settings.
PYTHON ?= python

.PHONY: check lint types architecture test slow
check: lint types architecture test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy activeselect strategies

architecture:
	lint-imports

test:
	$(PYTHON) -m pytest -n auto --dist loadfile

slow:
	$(PYTHON) -m pytest -m slow
