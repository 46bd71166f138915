# Two commands on a fresh machine: `make compare` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
# Versions: constraints-lowest.txt for the lowest that work, /dev/null for the newest.
CONSTRAINTS ?= constraints.txt
RESULTS ?= results/digits
BIN := $(VENV)/bin

.PHONY: compare test lint format clean
.DELETE_ON_ERROR:

compare: $(VENV)/.installed
	$(BIN)/python -m launch.compare --config=experiments/digits.py --workdir=$(RESULTS) $(ARGS)

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist=loadfile --no-loadscope-reorder $(ARGS)
	OPTIMISED=1 $(BIN)/python -m pytest -q -m bits $$(grep -l 'pytest.mark.bits' tests/test_*.py)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo 'Installing into $(VENV) (once)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info
