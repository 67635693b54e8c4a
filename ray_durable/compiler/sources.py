"""From a function object to its `Source`, and from a `Source` to the code object of the undecorated function.

The text comes from where the function was defined; for a function that was itself made from a `Source` on this machine,
or inside one, from that `Source`: so a coroutine's closures can be pickled again where the user's file does not exist,
or has been edited since.
"""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ray_durable.compiler import consoles
from ray_durable.compiler.parsing import parse, parse_expression
from ray_durable.compiler.passes import source as texts
from ray_durable.compiler.unit import Source
from ray_durable.errors import CompileError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
ROOTS: dict[str, dict[Source, None]] = {}  # sources that code was made from, by file name
MADE: dict[int, tuple[types.CodeType, Source]] = {}  # by id of the code object that `code_of` made, kept alive here


def remember(source: Source) -> None:
    """Look for functions of `source.filename` in this text first."""
    ROOTS.setdefault(source.filename, {})[source] = None


def source_of(function: types.FunctionType) -> Source:
    """The text that `function` was made from.

    Raises: CompileError when it cannot be found."""
    compiled = vars(function).get("__durable__")
    if compiled is not None:
        found: Source = compiled.source
        return found
    code = function.__code__
    if (made := MADE.get(id(code))) is not None:
        return replace(made[1], module=function.__module__ or "", qualname=function.__qualname__)
    alike: list[Source] = []
    for root in list(ROOTS.get(code.co_filename, ())):  # `part` may add to them
        for node, class_name in definitions(root):
            if is_definition_of(node, code) and (inner := part(root, node, class_name, function)) is not None:
                if code.co_name != "<lambda>" or is_same(code_of(inner), code):
                    return inner
                if not root.qualname.endswith("<lambda>"):  # another lambda of that line, by itself
                    alike.append(inner)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        for typed in consoles.texts(function):
            candidate = source_within(function, typed)
            if candidate is not None and is_same(code_of(candidate), code):
                return candidate
    if code.co_name == "<lambda>":
        candidate = lambda_source(function, lines)
        if candidate is None and len({each.text for each in alike}) == 1:
            candidate = alike[0]
        if candidate is None:
            raise lambda_without_source(code)
        return candidate
    read = texts.source_of(function)
    if consoles.is_newer(code.co_filename) and not is_same(code_of(read), code):
        raise texts.moved(function)
    return read


def source_within(function: types.FunctionType, lines: list[str]) -> Source | None:
    """The source of a function in a text that may be what it was made from."""
    if function.__code__.co_name == "<lambda>":
        return lambda_source(function, lines)
    try:
        return texts.source_in(function, lines)
    except CompileError:
        return None


def definitions(root: Source) -> Iterator[tuple[Definition, str | None]]:
    """All functions in a source, itself first, each with the class around it."""
    stack: list[tuple[ast.AST, str | None]] = [(tree_of(root), root.class_name)]
    while stack:
        node, class_name = stack.pop()
        if isinstance(node, Definition):
            yield node, class_name
        elif isinstance(node, ast.ClassDef):
            class_name = node.name
        stack.extend((child, class_name) for child in reversed(list(ast.iter_child_nodes(node))))


@lru_cache(maxsize=1024)
def tree_of(source: Source) -> Definition:
    """The tree of a source, at its own lines."""
    if not source.qualname.endswith("<lambda>"):
        return texts.parse(source)
    tree = parse_expression(f"(\n{source.text}\n)", source.filename).body
    ast.increment_lineno(tree, source.firstlineno - 2)
    assert isinstance(tree, ast.Lambda), source
    return tree


def first_line(node: Definition) -> int:
    if isinstance(node, ast.Lambda):
        return node.lineno
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def is_definition_of(node: Definition, code: types.CodeType) -> bool:
    """Whether `code` can have come from `node`: name, line and parameters agree."""
    name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
    arguments = node.args
    count = len(arguments.posonlyargs) + len(arguments.args)
    return name == code.co_name and first_line(node) == code.co_firstlineno and count == code.co_argcount


def part(root: Source, node: Definition, class_name: str | None, function: types.FunctionType) -> Source | None:
    """The source of a function inside `root`; None if what it compiles to is not what `function` runs."""
    lines = root.text.splitlines(keepends=True)
    first = first_line(node)
    last = node.end_lineno or first
    if isinstance(node, ast.Lambda):
        text = segment(lines, node, root.firstlineno)
    else:
        text = "".join(lines[first - root.firstlineno : last - root.firstlineno + 1])
    code = function.__code__
    found = Source(
        text,
        function.__module__ or "",
        function.__qualname__,
        root.filename,
        first,
        class_name,
        code.co_freevars,
        root.flags,
    )
    return found if is_alike(code_of(found), code) else None


def segment(lines: list[str], node: ast.expr, first: int) -> str:
    """The text of an expression in `lines`, of which the first is line `first` of the tree."""
    text = "".join(lines[node.lineno - first :])
    shifted = ast.Expr(node)
    shifted.lineno, shifted.col_offset = 1, node.col_offset
    shifted.end_lineno = (node.end_lineno or node.lineno) - node.lineno + 1
    shifted.end_col_offset = node.end_col_offset
    return ast.get_source_segment(text, shifted) or ""


def is_alike(made: types.CodeType, code: types.CodeType) -> bool:
    """Whether two code objects do the same, as far as names, constants and parameters tell."""

    def shape(code: types.CodeType) -> object:
        constants = [repr(constant) for constant in code.co_consts if not isinstance(constant, types.CodeType)]
        return code.co_varnames[: code.co_argcount], sorted(code.co_freevars), set(code.co_names), constants

    return shape(made) == shape(code)


def is_same(made: types.CodeType, code: types.CodeType) -> bool:
    """Whether two code objects are the same but for their place."""

    def inner(code: types.CodeType) -> list[types.CodeType]:
        return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]

    if made.co_code != code.co_code or not is_alike(made, code) or len(inner(made)) != len(inner(code)):
        return False
    return all(map(is_same, inner(made), inner(code)))


def lambda_source(function: types.FunctionType, lines: list[str]) -> Source | None:
    """The source of a lambda: of those on its line, the one that compiles to what it runs."""
    code = function.__code__
    try:
        tree = parse("".join(lines))
    except SyntaxError:
        return None
    stack: list[tuple[ast.AST, str | None]] = [(tree, None)]
    while stack:
        node, class_name = stack.pop()
        if isinstance(node, ast.Lambda) and is_definition_of(node, code):
            text = segment(lines, node, 1)
            found = Source(
                text, function.__module__ or "", function.__qualname__, code.co_filename, node.lineno, class_name,
                code.co_freevars,
            )  # fmt: skip
            if is_same(code_of(found), code):
                return found
        elif isinstance(node, ast.ClassDef):
            class_name = node.name
        stack.extend((child, class_name) for child in reversed(list(ast.iter_child_nodes(node))))
    return None


def lambda_without_source(code: types.CodeType) -> CompileError:
    return CompileError(
        f"the source of the lambda at {code.co_filename}:{code.co_firstlineno} cannot be found. "
        "Define it with `def`, in a file, a notebook, or through a loader with get_source().",
        code.co_filename,
        code.co_firstlineno,
    )


@lru_cache(maxsize=4096)
def code_of(source: Source) -> types.CodeType:
    """The code object of the function that `source` defines, without its decorators and defaults.

    Compiled inside a function that has its free variables and a class of its class's name, so that closures, `super()`
    and private names come out as they did."""
    bare = undecorated(tree_of(source))
    statement: Any = ast.copy_location(ast.Expr(bare), bare) if isinstance(bare, ast.Lambda) else bare
    name = "<lambda>" if isinstance(bare, ast.Lambda) else bare.name
    outer = name
    if source.class_name is not None:
        outer = source.class_name
        statement = ast.ClassDef(outer, [], [], [statement], [])
        statement.type_params = []
    body = [statement]
    if outer not in source.free and outer.isidentifier():
        body.insert(0, ast.Global([outer]))  # else what is defined here would become a variable of its closure
    free = [ast.arg(name) for name in source.free]
    factory: Any = ast.FunctionDef("factory", ast.arguments([], free, None, [], [], None, []), body, [])
    factory.type_params = []
    tree = ast.fix_missing_locations(ast.Module([factory], []))
    flags = source.flags & texts.FUTURE_FLAGS
    code = find_code(compile(tree, source.filename, "exec", flags, dont_inherit=True), name)
    made = code.replace(co_qualname=source.qualname, co_firstlineno=source.firstlineno)
    MADE[id(made)] = made, source
    remember(source)
    return made


def undecorated(definition: Definition) -> Definition:
    """The definition with no decorators, and no expressions as defaults: they have been evaluated already."""
    copied = type(definition)(**dict(ast.iter_fields(definition)))
    copied.args = ast.arguments(**dict(ast.iter_fields(definition.args)))
    copied.args.defaults = [ast.Constant(None) for _ in definition.args.defaults]
    copied.args.kw_defaults = [default and ast.Constant(None) for default in definition.args.kw_defaults]
    if not isinstance(copied, ast.Lambda):
        copied.decorator_list = []
    return ast.copy_location(copied, definition)


def find_code(code: types.CodeType, name: str) -> types.CodeType:
    """The outermost code object called `name` below `code`."""
    level = [code]
    while level:
        inner = [constant for outer in level for constant in outer.co_consts if isinstance(constant, types.CodeType)]
        for found in inner:
            if found.co_name == name:
                return found
        level = inner
    raise AssertionError(name)
