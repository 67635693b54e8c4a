# Everything needs only Python 3.11+ and make: the virtual environment is made on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export RAY_USAGE_STATS_ENABLED = 0

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.PHONY: setup demo demo-cold test observe check format chaos helm helm-chart helm-docs
setup: $(STAMP)  ## make the virtual environment with the package in it

demo: $(STAMP)  ## the main job: index a source tree while nodes are killed
	$(BIN)/python examples/kill_nodes.py

demo-cold: $(STAMP)  ## the main job, with the whole cluster killed in the middle
	$(BIN)/python examples/kill_nodes.py --cold

WATCHED := tests/cluster/test_prometheus.py
KILLS   := tests/cluster/test_kills.py

test: $(STAMP) check  ## lint, types and the tests, those on live clusters included
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not chaos and not cluster" --ignore=tests/helm
	$(BIN)/python -m pytest -m "not chaos" $(KILLS)  # alone: its times have bounds
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "cluster and not chaos" --ignore=tests/helm --ignore=$(WATCHED) --ignore=$(KILLS)

observe: $(STAMP)  ## every query of dashboards and alerts, by a real Prometheus that watches the demo
	$(BIN)/python -m pytest $(WATCHED)

check: $(STAMP)  ## lint and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## mend formatting and what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.helm: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[helm]'
	@touch $@

helm-chart: $(VENV)/.helm  ## chart and image: lint, render and validate with Helm 3 and 4
	$(BIN)/python helm/document.py --check
	$(BIN)/python -m pytest tests/helm -m "not chaos" --ignore=tests/helm/test_pods.py

helm: helm-chart  ## the same, and run what the pods would run (as root on Linux)
	$(BIN)/python -m pytest tests/helm/test_pods.py

helm-docs: $(STAMP)  ## write the chart's README and schema from its values and the package's settings
	$(BIN)/python helm/document.py

chaos: $(STAMP)  ## long runs with real kills
	$(BIN)/python -m pytest -m chaos --hypothesis-profile=new

.PHONY: dashboards tables picture
picture: $(STAMP)  ## run the demo under a real Prometheus, and draw docs/demo.svg of what that saw
	$(BIN)/python docs/picture.py

dashboards: $(STAMP)  ## regenerate the chart's dashboards and alert rules from their tables
	$(BIN)/python helm/generate/write.py

tables: $(STAMP)  ## regenerate the tables of metrics and settings in docs/
	$(BIN)/python docs/tables.py

SEEDS ?= 1000000
FIRST ?= 0
.PHONY: simulate
simulate: $(STAMP)  ## the protocol in virtual time, a million seeds (SEEDS=…, FIRST=…) on all cores
	$(BIN)/python -m tests.simulation $(SEEDS) --first $(FIRST)

# Ray with its agent, in an environment that has this one's packages below its own.
.PHONY: test-ray-default
test-ray-default: $(STAMP)  ## the tests that need ray[default]: our figures in Ray's own metrics
	test -x .venv-ray-default/bin/python || $(BIN)/python -m venv .venv-ray-default
	$(BIN)/python -c "import site, sysconfig; print(sysconfig.get_path('purelib'))" > .venv-ray-default/base.txt
	cp .venv-ray-default/base.txt "$$(.venv-ray-default/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth"
	.venv-ray-default/bin/python -m pip install --quiet --disable-pip-version-check 'ray[default]'
	.venv-ray-default/bin/python -m pytest tests/cluster/test_ray_metrics.py
