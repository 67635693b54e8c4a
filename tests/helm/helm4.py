"""`helm lint --strict` and `helm template` of Helm 4, through its own SDK: all that the tests of the chart ask for.

A program of its own, since the SDK brings Go's runtime, threads and signal handlers into its process.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import yaml
from helm_python import HelmError
from helm_python.chart import Chart, lint


def merged(over: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Values files as Helm reads them: later ones win, maps are merged."""
    both = {**base, **over}
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            both[key] = merged(over[key], base[key])
    return both


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("lint", "template"):
        command = commands.add_parser(name)
        if name == "template":
            command.add_argument("release")
        command.add_argument("chart")
        command.add_argument("--values", action="append", default=[])
        command.add_argument("--strict", action="store_true")
        command.add_argument("--namespace")
    options = parser.parse_args()
    values: dict[str, Any] = {}
    for path in options.values:
        with open(path, encoding="utf-8") as file:
            values = merged(yaml.safe_load(file) or {}, values)
    try:
        if options.command == "lint":
            report = lint(options.chart, values, strict=options.strict)
            for message in report["messages"]:
                print(message)
            return 1 if report["errors"] else 0
        with Chart.load(options.chart) as chart:
            chart.validate_schema(values)
            for name, text in sorted(chart.render(values, name=options.release, namespace=options.namespace).items()):
                if name.endswith(".yaml") and text.strip():
                    print(f"---\n# Source: {name}\n{text}")
    except HelmError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
