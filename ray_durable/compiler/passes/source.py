"""From a function to its text, and from the text to a tree with the file's own lines.

A definition is found by its first line and name in the parsed file, whose text comes through `linecache`: so files,
zips, notebooks and `exec` with a source loader are all the same here. The fingerprint is taken over the tree, in a
form that is equal on every supported Python: comments, layout, path and decorators do not count.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
from dataclasses import dataclass
from types import FunctionType

from ray_durable.compiler import parsing
from ray_durable.compiler.unit import Source
from ray_durable.errors import CompileError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUTURE_FLAGS = 0x1FE0000  # every `from __future__` flag of co_flags
FILES: dict[str, tuple[int, dict[tuple[str, int], Place]]] = {}  # file → (hash of its text, definitions in it)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands in its file, and the innermost class around it."""

    first: int
    last: int
    class_name: str | None


def source_of(function: FunctionType) -> Source:
    """The text of `function` and what compiling it depends on.

    Raises: CompileError when the text cannot be found.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise CompileError(
            f"no source for {function.__qualname__}(): {code.co_filename!r} cannot be read. A durable function is "
            "compiled from its text: define it in a file, a notebook, or through a loader with get_source().",
            code.co_filename,
            code.co_firstlineno,
        )
    return source_in(function, lines)


def source_in(function: FunctionType, lines: list[str]) -> Source:
    """The same, where the text of the file is at hand."""
    code = function.__code__
    place = definitions(code.co_filename, lines).get((code.co_name, code.co_firstlineno))
    if place is None:
        raise moved(function)
    return Source(
        text="".join(lines[place.first - 1 : place.last]),
        module=function.__module__ or "",
        qualname=function.__qualname__,
        filename=code.co_filename,
        firstlineno=place.first,
        class_name=place.class_name,
        free=code.co_freevars,
        flags=code.co_flags & FUTURE_FLAGS,
    )


def moved(function: FunctionType) -> CompileError:
    """The error where the text at hand is not that of the function."""
    code = function.__code__
    return CompileError(
        f"the source of {function.__qualname__}() is not at {code.co_filename}:{code.co_firstlineno}: the file has "
        "changed since it was loaded, or the function was made without a `def`. Reload it.",
        code.co_filename,
        code.co_firstlineno,
    )


def definitions(filename: str, lines: list[str]) -> dict[tuple[str, int], Place]:
    """All definitions in a file, by name and first line (that of the first decorator)."""
    text = "".join(lines)
    known = FILES.get(filename)
    if known is not None and known[0] == hash(text):
        return known[1]
    found: dict[tuple[str, int], Place] = {}
    try:
        tree = parsing.parse(text)
    except SyntaxError:
        tree = ast.Module([], [])
    stack: list[tuple[ast.AST, str | None]] = [(tree, None)]
    while stack:
        node, class_name = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name, first] = Place(first, node.end_lineno or first, class_name)
        elif isinstance(node, ast.ClassDef):
            class_name = node.name
        # only statements hold definitions: what is in expressions need not be looked at
        stack.extend((child, class_name) for child in statements_in(node))
    FILES[filename] = (hash(text), found)
    return found


def statements_in(node: ast.AST) -> list[ast.AST]:
    """The statements (and handlers, cases) right below `node`."""
    found: list[ast.AST] = []
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += value
    return found


def parse(source: Source) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The tree of a definition, at the lines and columns that it has in its file."""
    if source.qualname.endswith("<lambda>"):
        return as_definition(source)
    indented = source.text[:1].isspace()
    before = "\n" * (source.firstlineno - 2) + "if 1:\n" if indented else "\n" * (source.firstlineno - 1)
    tree = parsing.parse(before + source.text, source.filename)
    found = tree.body[0]
    if indented:
        assert isinstance(found, ast.If)
        found = found.body[0]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef), ast.dump(found)
    return found


def as_definition(source: Source) -> ast.FunctionDef:
    """A lambda as the definition of a function of the same name."""
    tree = parsing.parse_expression("\n" * (source.firstlineno - 1) + f"({source.text})", source.filename)
    found = tree.body
    assert isinstance(found, ast.Lambda), ast.dump(found)
    result = ast.copy_location(ast.Return(found.body), found.body)
    definition = ast.FunctionDef("<lambda>", found.args, [result], [])
    definition.type_params = []  # type: ignore[attr-defined, unused-ignore]
    return ast.copy_location(definition, found)


def fingerprint(definition: ast.AST, *context: object) -> str:
    """A hash of what a definition means: structure, names and constants."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(context).encode())
    digest.update("".join(normalized(definition, root=True)).encode())
    return digest.hexdigest()


def normalized(node: object, root: bool = False) -> list[str]:
    """A tree as text that is the same on all Python versions: empty fields are left out, adjacent strings joined."""
    if isinstance(node, ast.AST):
        parts = ["(", type(node).__name__]
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in ("ctx", "type_comment", "kind"):
                continue
            if root and name in ("decorator_list", "name"):
                continue
            parts += [" ", name, "="]
            parts += normalized(value)
        parts.append(")")
        return parts
    if isinstance(node, list):
        return ["[", *(part for item in node for part in normalized(item)), "]"]
    return [type(node).__name__, repr(node)]
