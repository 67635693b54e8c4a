"""Keep the chart's README and schema in step with `values.yaml` and with the settings of ray_durable.

`python helm/document.py` writes the table of values into README.md (as helm-docs would, from the `# --` comments) and
the known settings into values.schema.json; `--check` changes nothing, and fails if either would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from ray_durable.config import SettingRow, setting_rows

CHART = Path(__file__).parent / "ray-durable"
BEGIN, END = "<!-- values: written by helm/document.py -->", "<!-- end of values -->"

# Settings that the chart sets from values of their own; in `settings` they would be said twice.
TAKEN = {
    "storage": "storage.url",
    "signing_key": "keys",
    "encryption_key": "keys",
    "metrics": "metrics.enabled",
    "metrics_host": "metrics.host",
    "metrics_port": "metrics.hostPort",
    "controller_metrics_port": "metrics.controllerPort",
    "drain_timeout_s": "drain.timeoutSeconds",
}


@dataclass(frozen=True)
class Value:
    """One documented value: its path with dots, its default as JSON, and what it is for."""

    path: str
    default: str
    text: str


def documented_values(source: str) -> Iterator[Value]:
    """The values under a `# --` comment, in the order of the file. A comment covers the key on the next line."""
    values = yaml.safe_load(source)
    path: list[str] = []
    text: str | None = None
    for line in source.splitlines():
        if match := re.match(r"\s*# -- (.*)", line):
            text = match[1]
            continue
        key = re.match(r"(\s*)([A-Za-z]\w*):", line)
        if key is None:
            continue
        path[len(key[1]) // 2 :] = [key[2]]
        if text is not None:
            value = values
            for part in path:
                value = value[part]
            yield Value(".".join(path), json.dumps(value), text)
            text = None


def undocumented(source: str) -> list[str]:
    """Values that no `# --` comment covers, nor one of a map around them."""
    covered = [value.path for value in documented_values(source)]
    paths = leaves(yaml.safe_load(source))
    return [path for path in paths if not any(path == c or path.startswith(c + ".") for c in covered)]


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path


def values_table(source: str) -> str:
    rows = [
        "| `{}` | `{}` | {} |".format(value.path, value.default.replace("|", "\\|"), value.text.replace("|", "\\|"))
        for value in documented_values(source)
    ]
    return "\n".join(["| Value | Default | What it is |", "|---|---|---|", *rows])


def setting_schema(row: SettingRow) -> dict[str, Any]:
    """One setting as JSON schema. A bound that is exclusive there is one here."""
    schema: dict[str, Any] = {"description": f"{row.text} Unit: {row.unit}."}
    if get_origin(row.kind) is Literal:
        return {**schema, "enum": list(get_args(row.kind))}
    schema["type"] = {bool: "boolean", int: "integer", float: "number", str: "string"}[row.kind]
    names = {"above": "exclusiveMinimum", "at_least": "minimum", "below": "exclusiveMaximum"}
    return {**schema, **{names[bound]: value for bound, value in row.bounds.items()}}


def with_table(readme: str, table: str) -> str:
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"README.md lacks the lines {BEGIN!r} and {END!r}"
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def with_settings(schema: str) -> str:
    tree = json.loads(schema)
    settings = tree["properties"]["settings"]
    settings["properties"] = {row.name: setting_schema(row) for row in setting_rows() if row.name not in TAKEN}
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    check = parser.parse_args().check
    source = (CHART / "values.yaml").read_text()
    readme, schema = CHART / "README.md", CHART / "values.schema.json"
    texts = {readme: with_table(readme.read_text(), values_table(source)), schema: with_settings(schema.read_text())}
    stale = [path for path, text in texts.items() if path.read_text() != text]
    for path in stale:
        print(f"{path.name} is not in step; `make helm-docs` writes it" if check else f"{path.name} written")
        if not check:
            path.write_text(texts[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
