"""Write the tables of docs/metrics.md and docs/settings.md from the code that declares them; `make tables` runs it.

python docs/tables.py            writes what is between the markers
python docs/tables.py --check    only says whether it is as the code has it
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray_durable.config import SettingRow, setting_rows
from ray_durable.metrics import Declaration, declarations

DOCS = Path(__file__).parent
BEGIN, END = "<!-- table: made by docs/tables.py -->\n", "<!-- end of table -->\n"


def metric_line(about: Declaration) -> str:
    labels = []
    for label in about.labels:
        values = " ".join(f"`{value}`" for value in label.values or ())
        labels.append(f"`{label.name}`: {values}" if values else f"`{label.name}`")
    return f"| `{about.name}` | {about.kind} | {about.unit} | {'; '.join(labels)} | {about.text} |"


def metrics_table() -> str:
    lines = ["| name | kind | unit | labels | meaning |", "|---|---|---|---|---|", *map(metric_line, declarations())]
    return "\n".join(lines) + "\n"


def setting_line(row: SettingRow) -> str:
    if row.default is None:
        default = "none"
    elif row.name == "storage":
        default = "`ray_durable` in the user's data folder"  # a path that differs from machine to machine
    elif isinstance(row.default, bool):
        default = "on" if row.default else "off"
    else:
        default = f"`{row.default}`"
    kind = row.shown_kind.replace("|", "or")
    return f"| `{row.name}` | {kind} | {row.unit} | {default} | `{row.variable}` | {row.text} |"


def settings_table() -> str:
    head = ["| setting | type | unit | default | variable | meaning |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *map(setting_line, setting_rows())]) + "\n"


def pages() -> dict[Path, str]:
    """Every page that has a table, with the table as the code has it."""
    made = {}
    for name, table in (("metrics.md", metrics_table()), ("settings.md", settings_table())):
        before, _, rest = (DOCS / name).read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        made[DOCS / name] = before + BEGIN + table + END + after
    return made


def main(arguments: list[str]) -> int:
    stale = [path for path, text in pages().items() if path.read_text() != text]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path} is not what the code has; run: make tables")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
