"""`ray-durable compile` on files: functions found by any import, text that compiles, refusals with their line."""

from __future__ import annotations

import ast
import json

import pytest
from typer.testing import CliRunner

from ray_durable.cli.commands import app
from ray_durable.compiler.passes import unsupported

PROGRAM = '''\
"""A program that must not be run by looking at it."""
import ray_durable as rd
from ray_durable import remote as durable_remote
from ray_durable.compiler import durable

raise SystemExit("it was run")


class Reader:
    @durable_remote
    def read(self, paths):
        for path in paths:
            with open(path) as file:
                yield file.read()
        return super().__repr__()


@rd.remote(num_cpus=1)
def pipeline(orders):
    """Order by order."""
    for order in orders:
        def label():
            "What it is called."
            return f"order {order}"
        charge(order, label)


@durable
async def waits(ref):
    return await ref


def ordinary(n):
    yield n
'''


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["compile", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_marked_functions_are_found_and_the_file_is_not_run(program):
    found = json.loads(run(program, "--json"))
    assert [(each["function"], each["kind"]) for each in found] == [
        ("Reader.read", "generator"),
        ("pipeline", "plain"),
        ("waits", "coroutine"),
    ]


def test_yield_points_are_at_the_users_lines(program):
    lines = PROGRAM.splitlines()
    for each in json.loads(run(program, "--json")):
        assert each["points"]
        for point in each["points"]:
            assert any(word in lines[point["line"] - 1] for word in ("yield", "await", "charge", "label", "repr"))


def test_what_is_shown_is_python_with_no_marks_in_it(program):
    for each in json.loads(run(program, "--json")):
        for text in (each["source"], each["resume"]):
            ast.parse(text)
            assert "‹" not in text
    assert "Order by order." in run(program)
    assert "What it is called." in run(program)


def test_both_bodies_are_shown_and_the_resume_body_can_be_left_out(program):
    assert run(program).count("Resume body") == 3
    assert "Resume body" not in run(program, "--no-resume")


def test_any_function_by_name(program):
    assert [each["function"] for each in json.loads(run(program, "-f", "ordinary", "--json"))] == ["ordinary"]
    assert "has no function 'nobody'" in run(program, "-f", "nobody", code=1)
    assert [each["function"] for each in json.loads(run(f"{program}:ordinary", "--json"))] == ["ordinary"]
    assert [each["function"] for each in json.loads(run(f"{program}:Reader.read", "--json"))] == ["Reader.read"]
    assert "has no function 'nobody'" in run(f"{program}:nobody", code=1)
    assert "Cannot read" in run(f"{program}.txt:ordinary", code=1)


def test_a_refusal_names_file_line_and_reason(program, monkeypatch):
    monkeypatch.setattr(unsupported, "ALLOWED", unsupported.ALLOWED - {"JoinedStr"})
    output = run(program, "--check", code=1)
    line = next(i for i, text in enumerate(PROGRAM.splitlines(), 1) if "order {order}" in text)
    assert f"refused {program}:{line}: in pipeline(): JoinedStr is not known" in output
    refused = {each["function"]: each for each in json.loads(run(program, "--json", code=1))}["pipeline"]
    assert (refused["line"], refused["source"]) == (line, None)


def test_check_says_one_line_each(program):
    assert [line.split()[:2] for line in run(program, "--check").splitlines()] == [
        ["durable", "Reader.read"],
        ["durable", "pipeline"],
        ["durable", "waits"],
    ]


def test_a_file_without_durable_functions_is_no_error(tmp_path):
    (tmp_path / "plain.py").write_text("def f(): pass\n")
    assert "no function marked" in run(tmp_path / "plain.py")


@pytest.mark.parametrize(
    "content, says",
    [(None, "No such file"), (b"def f(:\n", "Python itself cannot compile"), (b"\xff\xfe\x00", "it is not text")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content, says):
    path = tmp_path / "bad.py"
    if content is not None:
        path.write_bytes(content)
    assert says in run(path, code=1)
    error = json.loads(run(path, "--json", code=1))["error"]
    assert says in error["message"]


def test_a_directory_is_refused(tmp_path):
    assert "directory" in run(tmp_path, code=1)
