"""Durable functions from everywhere that a user can define one: each works, or the error says what to do instead."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import pickle
from ray_durable.compiler import durable
from ray_durable.compiler.references import dumps

@durable
def gen(n):
    for i in range(n):
        yield i

class Keeps:
    __hidden = 7
    of = durable(lambda self: (yield self.__hidden))

def check(made):
    first = next(made)
    print("went on:", first, list(pickle.loads(dumps(made))))

if __name__ == "__main__":
    check(gen(3))
    check(Keeps().of())
"""
EXPECTED = ["went on: 0 [1, 2]", "went on: 7 []"]
LINES = [
    line for block in PROGRAM.partition("if __name__")[0].strip().split("\n\n") for line in (*block.split("\n"), "")
]
TYPED = [*LINES, "check(gen(3))", "check(Keeps().of())"]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHON_BASIC_REPL": "1", **more}


def run(*arguments, cwd, **more):
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd, env=environment(), **more
    )
    return done.stdout, done.stderr


def shown(output):
    return [line.strip() for line in output.splitlines() if line.startswith("went on")]


def typed_into(command, lines):
    """What a console prints that is typed into line by line."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, environment())
    output = b""

    def until_prompt():
        nonlocal output
        while select.select([terminal], [], [], 30)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:
                return
            if output.endswith((b">>> ", b"... ")):
                return

    until_prompt()
    for line in [*lines, "exit()"]:
        os.write(terminal, f"{line}\n".encode())
        until_prompt()
    os.close(terminal)
    os.waitpid(pid, 0)
    return output.decode()


@pytest.mark.parametrize("arguments", [("-i",), ("-c", "import code; code.interact()")], ids=["python -i", "code"])
def test_typed_into_a_console(arguments):
    if arguments == ("-i",) and sys.version_info < (3, 13):
        pytest.importorskip("readline")
    output = typed_into([sys.executable, *arguments], TYPED)
    assert shown(output) == EXPECTED, output


def test_given_to_python_c(tmp_path):
    output, errors = run("-c", PROGRAM, cwd=tmp_path)
    assert shown(output) == EXPECTED, errors


def test_as_a_script_a_module_a_package_and_out_of_a_zip(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(PROGRAM)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("inside.py", PROGRAM)
        packed.writestr("__main__.py", "from inside import *\ncheck(gen(3))\ncheck(Keeps().of())\n")
    for arguments in (["program.py"], ["-m", "program"], ["-m", "package"], ["packed.zip"]):
        output, errors = run(*arguments, cwd=tmp_path)
        assert shown(output) == EXPECTED, errors


def test_in_a_doctest(tmp_path):
    body = "".join(
        f"{'>>>' if line[:1].strip() and not (i and LINES[i - 1].startswith('@')) else '...'} {line}\n"
        for i, line in enumerate(LINES)
        if line
    )
    (tmp_path / "documented.py").write_text(f'"""\n{body}>>> check(gen(3))\n{EXPECTED[0]}\n"""\n')
    output, errors = run("-m", "doctest", "documented.py", cwd=tmp_path)
    assert (output, errors) == ("", "")


def test_a_program_on_standard_input_is_refused_saying_why(tmp_path):
    if sys.version_info >= (3, 13):
        pytest.skip("it is kept there")
    _, errors = run("-", cwd=tmp_path, input=PROGRAM)
    assert "<stdin>:6: no source for gen()" in errors
    assert "define it in a file, a notebook" in errors


def test_the_text_of_a_loader_counts_only_where_it_is_that_of_the_function(tmp_path):
    program = f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from ray_durable.compiler import durable
        from ray_durable.errors import CompileError
        text = "@durable\\ndef gen(n):\\n    yield n\\n"
        class Loader:
            def get_source(self, name):
                return text
        variables = {{"__name__": "made", "__loader__": Loader(), "durable": durable}}
        exec(compile(text, "<made>", "exec"), variables)
        print(list(variables["gen"](3)))
        text = text.replace("yield n", "yield 8")
        try:
            exec(compile("def gen(n):\\n    yield 9\\n", "<made>", "exec"), variables)
            durable(variables["gen"])
        except CompileError as error:
            print(error)
    """
    (tmp_path / "loading.py").write_text(textwrap.dedent(program))
    output, errors = run("loading.py", cwd=tmp_path)
    assert output.startswith("[3]\n<made>:1: no source for gen()"), errors


def test_a_helper_whose_file_was_edited_after_it_was_loaded_stays_as_it_was_loaded(tmp_path):
    (tmp_path / "helping.py").write_text("async def helper(step, n):\n    return await step(n + 1)\n")
    program = f"""
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        import helping
        from ray_durable.compiler import durable
        from ray_durable.errors import CompileError
        from tests.compiler.roundtrip import Step
        @durable
        async def main():
            return await helping.helper(Step, 1)
        text = open("helping.py").read().replace("n + 1", "n + 100")
        open("helping.py", "w").write(text)
        print(main().send(None))
        try:
            durable(helping.helper)
        except CompileError as error:
            print(error)
    """
    (tmp_path / "editing.py").write_text(textwrap.dedent(program))
    output, errors = run("editing.py", cwd=tmp_path)
    assert output.startswith("2\n"), errors
    assert "helping.py:1: the source of helper() is not at" in output
    assert "has changed since it was loaded" in output
