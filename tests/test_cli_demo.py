"""`ray-durable demo` runs the example that comes with the package, and hands its options on."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from ray_durable.cli import demo
from ray_durable.cli.commands import app


def test_the_example_is_found():
    assert demo.program().name == "kill_nodes.py"


def test_options_and_exit_status_go_through(monkeypatch, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import sys; open(sys.argv[-1], 'w').write(repr(sys.argv[1:-2])); sys.exit(3)")
    monkeypatch.setattr(demo, "program", lambda: program)
    record = tmp_path / "record"
    result = CliRunner().invoke(app, ["demo", "--nodes", "5", "--seed", "7", "--record", str(record), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"passed": False, "exit_status": 3}
    assert record.read_text() == "['--nodes', '5', '--seed', '7']"


def test_an_installation_without_examples_says_what_to_do(monkeypatch):
    monkeypatch.setattr(demo, "PROGRAM", "not_there.py")
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert "make demo" in result.output
