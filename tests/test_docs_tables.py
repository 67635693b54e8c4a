"""The documentation's tables of metrics and settings are what the code has: nothing missing, nothing extra."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ray_durable.actors.exporter import DurableCollector
from ray_durable.config import Settings
from ray_durable.metrics import Metrics

DOCS = Path(__file__).parent.parent / "docs"


def rows(page: str) -> dict[str, list[str]]:
    table = re.findall(r"^\| `(\w+)` \|(.*)\|$", (DOCS / page).read_text(), flags=re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in table}


def test_pages_hold_the_tables_that_the_code_makes():
    tables = runpy.run_path(str(DOCS / "tables.py"))
    for path, text in tables["pages"]().items():
        assert path.read_text() == text, f"{path} is stale; run: make tables"


def test_the_documented_metrics_are_those_of_a_scrape():
    registry = CollectorRegistry()
    registry.register(DurableCollector(Metrics()))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    scraped = {f.name + ("_total" if f.type == "counter" else ""): f.type for f in families}
    assert {name: cells[0] for name, cells in rows("metrics.md").items()} == scraped


def test_the_documented_settings_are_those_that_can_be_set():
    documented = rows("settings.md")
    assert set(documented) == set(Settings.load({}).shown())
    for name, cells in documented.items():
        assert cells[3] == f"`RAY_DURABLE_{name.upper()}`"
