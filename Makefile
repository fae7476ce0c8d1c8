# make demo    encode and decode the bundled clip at every level, print a table, write the results to demo-output/
# make test    run all tests
# make figures put the figures of a bench's report into README.md: make figures REPORT=report/report.json
# make clean   remove the virtual environment and what was built
#
# Both work in a virtual environment in .venv, with the versions of constraints.txt. Variables:
#   PYTHON      the interpreter that makes the environment (3.11 or later)
#   PIP_FLAGS   more options for pip, such as another package index (see constraints.txt for builds of torch)
#   TESTS       options and paths for pytest, such as TESTS="tests/entropy -x"
#   WORKERS     processes that run tests side by side, 0 for this one alone

PYTHON ?= python3
PIP_FLAGS ?=
TESTS ?=
WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
METADATA := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test figures clean

demo: $(VENV)/.installed
	$(BIN)/ncodec demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

REPORT ?= report/report.json

figures: $(VENV)/.installed
	$(BIN)/ncodec bench --figures $(REPORT) README.md

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or later is needed; name one with: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# setuptools first, at its pinned version: with it in place the build needs no environment (and no network) of its own.
$(VENV)/.installed: $(VENV)/.created $(METADATA)
	$(PIP) install $(PIP_FLAGS) -c constraints.txt setuptools
	$(PIP) install $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output .pytest_cache .ruff_cache .hypothesis
	find neuralcodec bitstream_spec tests -name __pycache__ -type d -prune -exec rm -rf {} +
