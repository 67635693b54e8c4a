"""`ray-durable compile`: which functions of a file become durable, their yield points, and the code made of them.

The file is read, not imported: nothing of it runs. The text shown is what CPython compiles, with our run-time helpers
by their plain names; positions (so tracebacks) are those of the user's own lines, which text cannot show.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.syntax import Syntax
from rich.text import Text

from ray_durable.cli.output import Answer, CommandFailed, command, headline, table
from ray_durable.compiler.parsing import parse
from ray_durable.errors import CompileError

if TYPE_CHECKING:
    from ray_durable.compiler.pipeline import Body
    from ray_durable.compiler.unit import Mode, Source

MARKS = {"ray_durable": ("remote",), "ray_durable.compiler": ("durable",)}
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Point:
    """One yield point in the user's file."""

    number: int
    kind: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A function of the file as hosts run it; or `error`, why it cannot be made durable."""

    function: str
    line: int
    kind: str
    fingerprint: str | None = None
    points: tuple[Point, ...] = ()
    source: str | None = None
    resume: str | None = None
    error: str | None = None


@command
def compile_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE[:FUNCTION]", help="A Python file, which is read, not imported.")
    ],
    function: Annotated[
        list[str] | None, typer.Option("--function", "-f", help="This function, durable or not; may be given again.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Show the resume body too, which goes on from a frame.")
    ] = True,
    check: Annotated[bool, typer.Option("--check", help="Only say whether all can be made durable.")] = False,
) -> Answer:
    """Show what the compiler makes of a file's durable functions. Exit status 1 if it refuses one."""
    file, named = parted(file)
    function = [*(function or ()), *named]
    text = read(file)
    try:
        tree = parse(text, str(file))
        code = compile(text, str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise CommandFailed(f"{file}:{error.lineno}: {error.msg}.", "Python itself cannot compile this file.") from None
    chosen = [each for each in roots(tree) if (each[0] in function if function else is_marked(each[1], tree))]
    for name in set(function or ()) - {qualname for qualname, _, _ in chosen}:
        raise CommandFailed(f"{file} has no function {name!r} at its top level or in a class.")
    made = [compiled(source_of(text, file, code, *each), each[1]) for each in chosen]
    refused = [each for each in made if each.error]
    if not made:
        said = f"{file} has no function marked @ray_durable.remote (or @durable); name others with --function."
        return Answer([], [said])
    shown: list[Any] = []
    for each in made:
        shown += summary(each) if check else listing(each, resume)
    plain = [{**asdict(each), "resume": each.resume if resume else None} for each in made]
    return Answer(plain, shown, code=1 if refused else 0)


def parted(file: Path) -> tuple[Path, list[str]]:
    """The file, and the function that `FILE:FUNCTION` names, if any."""
    path, colon, name = str(file).rpartition(":")
    if not colon or file.exists() or not all(map(str.isidentifier, name.split("."))):
        return file, []
    return Path(path), [name]


def read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandFailed(f"Cannot read {file}: {reason}.") from None


def roots(tree: ast.Module) -> Iterator[tuple[str, Definition, str | None]]:
    """Functions and methods that the compiler takes as a whole: qualified name, tree, class."""

    def below(node: ast.AST, prefix: str, class_name: str | None) -> Iterator[tuple[str, Definition, str | None]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                yield prefix + child.name, child, class_name
            elif isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.", child.name)
            elif not isinstance(child, ast.Lambda):
                yield from below(child, prefix, class_name)

    yield from below(tree, "", None)


def is_marked(definition: Definition, tree: ast.Module) -> bool:
    """Whether a decorator is ours, by whatever name the file imports it."""
    known: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known |= {f"{alias.asname or alias.name}.{mark}" for mark in MARKS.get(alias.name, ())}
        elif isinstance(node, ast.ImportFrom) and node.module in MARKS:
            known |= {alias.asname or alias.name for alias in node.names if alias.name in MARKS[node.module]}
    found = (each.func if isinstance(each, ast.Call) else each for each in definition.decorator_list)
    return any(ast.unparse(each) in known for each in found)


def source_of(
    text: str, file: Path, module: CodeType, qualname: str, definition: Definition, class_name: str | None
) -> Source:
    """What the compiler is given for a function of the file; its closure and flags are those that CPython sees."""
    from ray_durable.compiler.unit import Source

    first = min([definition.lineno, *(each.lineno for each in definition.decorator_list)])
    lines = text.splitlines(keepends=True)[first - 1 : definition.end_lineno]
    same = (each for each in all_code(module) if each.co_qualname == qualname and each.co_firstlineno == first)
    code = next(same, module)  # CPython leaves out what can never be reached
    return Source(
        text="".join(lines),
        module=file.stem,
        qualname=qualname,
        filename=str(file),
        firstlineno=first,
        class_name=class_name,
        free=code.co_freevars,
        flags=code.co_flags,
    )


def all_code(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from all_code(each)


def compiled(source: Source, definition: Definition) -> Compiled:
    """The function as hosts run it: plain functions and generators as their twin, in which calls may suspend."""
    from ray_durable.compiler import pipeline

    kind = pipeline.kind_of(definition)
    mode: Mode = "native" if kind in ("coroutine", "async_generator") else "twin"
    try:
        unit = pipeline.build(source, mode)
        body = pipeline.passes(source, mode)
    except CompileError as error:
        return Compiled(source.qualname, error.lineno or source.firstlineno, kind, error=str(error))
    return Compiled(
        source.qualname,
        source.firstlineno,
        kind,
        unit.fingerprint,
        tuple(Point(each.number, each.kind, each.lineno, each.column) for each in unit.points),
        as_text(fresh_definition(body)),
        as_text(pipeline.resume_definition(pipeline.passes(source, mode), unit)),
    )


def fresh_definition(body: Body) -> Definition:
    from ray_durable.compiler import pipeline
    from ray_durable.compiler.passes import emit

    statements = pipeline.fresh_statements(body)
    if body.docstring is not None:
        statements = [ast.Expr(ast.Constant(body.docstring)), *statements]
    return emit.function(body.definition, statements, body.context.is_async, body.definition.args)


def as_text(definition: Definition) -> str:
    from ray_durable.compiler.render import Readable

    readable = Readable().visit(definition)
    return ast.unparse(ast.fix_missing_locations(readable))


def summary(each: Compiled) -> list[Any]:
    if each.error:
        return [Text.assemble(("refused ", "red"), each.error)]
    return [
        Text.assemble(("durable ", "green"), f"{each.function} (line {each.line}): {len(each.points)} yield points")
    ]


def listing(each: Compiled, resume: bool) -> list[Any]:
    """The function as people read it: a headline, its yield points, its text."""
    if each.error or each.source is None:
        return summary(each)
    points = [(p.number, p.kind, p.line, p.column) for p in each.points]
    shown: list[Any] = [headline(f"{each.function} ({each.kind}, line {each.line}, {each.fingerprint})")]
    if points:
        shown += [table(["POINT", "KIND", "LINE", "COLUMN"], points, right=("POINT", "LINE", "COLUMN")), ""]
    shown += [code_text(each.source), ""]
    if resume and each.resume:
        shown += [Text("# Resume body: called with a frame, it goes on from there.", "dim"), code_text(each.resume), ""]
    return shown


def code_text(source: str) -> Syntax:
    return Syntax(source, "python", theme="ansi_dark", background_color="default", word_wrap=False)
