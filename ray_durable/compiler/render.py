"""The generated source of a durable function, to be read by people: both bodies, laid out and commented.

What is compiled is a tree with the positions of the user's own lines; this is its text. LibCST lays it out and puts the
comments in: for each yield point its number and the line in the user's file, for the resume body what its guards do.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from ray_durable.compiler.backedges import DUE_NAME
from ray_durable.compiler.passes.build import HELPER_MARK
from ray_durable.compiler.passes.emit import NESTED_MARK, SEPARATOR

if TYPE_CHECKING:
    from ray_durable.compiler.pipeline import Body
    from ray_durable.compiler.unit import Mode, Unit

Definition = ast.FunctionDef | ast.AsyncFunctionDef
ARRIVES = re.compile(r"_\w*at = (\d+)$")
LANDS = re.compile(r"_\w*to = (0|False)$")
SETS_CELL = re.compile(r"\w+ = _\w*cells\[\d+\]$")
UNBINDS = re.compile(r"if _\w*to < 0:$")
RECEIVES = re.compile(r"if _\w*to.__class__ is list:$")


def render(function: Any, mode: Mode | None = None) -> str:
    """The fresh body and the resume body of a durable function, as Python text with comments.

    `mode`: "native", "twin" or "looping"; by default what a host runs: the twin of a plain function or a generator, and
    an `async def` itself. Raises: CompileError when `function` is not durable.

    Example: print(render(counter))
    """
    from ray_durable.compiler import pipeline
    from ray_durable.compiler.decoration import compiled_of
    from ray_durable.errors import CompileError

    compiled = compiled_of(function)
    if compiled is None:
        raise CompileError(f"{function!r} is not durable; put @durable on it first")
    if mode is None:
        mode = "native" if compiled.kind in ("coroutine", "async_generator") else "twin"
    unit = pipeline.compile_source(compiled.source, mode)
    body = pipeline.passes(compiled.source, mode)
    fresh = as_text(fresh_definition(body), unit)
    resume = as_text(pipeline.resume_definition(pipeline.passes(compiled.source, mode), unit), unit)
    source = compiled.source
    where = f"# {source.qualname}, from {source.filename}:{source.firstlineno}"
    return (
        f"{where}\n# The fresh body, which a call runs.\n{fresh}\n\n"
        f"{where}\n# The resume body: its arguments are a frame, and it goes on at yield point `_to`.\n{resume}\n"
    )


def fresh_definition(body: Body) -> Definition:
    """The fresh body under its own signature."""
    from ray_durable.compiler import pipeline
    from ray_durable.compiler.passes import emit

    statements = pipeline.fresh_statements(body)
    if body.docstring is not None:
        statements = [ast.Expr(ast.Constant(body.docstring)), *statements]
    return emit.function(body.definition, statements, body.context.is_async, body.definition.args)


def as_text(definition: Definition, unit: Unit | None = None) -> str:
    """The text of a definition; with its unit, commented."""
    readable = Readable().visit(definition)
    text = ast.unparse(ast.fix_missing_locations(readable))
    return text if unit is None else commented(text, unit)


class Readable(ast.NodeTransformer):
    """Helpers by their names instead of the constants that stand for them, and no marks for nested functions."""

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        # '‹ray_durable helper› NAME' if True else None   =>   NAME
        if isinstance(node.body, ast.Constant) and str(node.body.value).startswith(HELPER_MARK):
            return ast.Name(str(node.body.value).removeprefix(HELPER_MARK), ast.Load())
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        value = node.value.value if isinstance(node.value, ast.Constant) else None
        if isinstance(value, str) and value.startswith(NESTED_MARK):
            docstring = value.split(SEPARATOR, 2)[2:]
            return ast.Expr(ast.Constant(docstring[0])) if docstring else None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg("iterable", None) if node.arg == ".0" else node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name({".0": "iterable", DUE_NAME: "_due"}.get(node.id, node.id), node.ctx)


def commented(text: str, unit: Unit) -> str:
    """The text with a comment at each place where a reader wonders."""
    import libcst as cst

    nested = {name for inner in unit.nested for name in inner.names.values()} if unit.nested else set()

    class Comment(cst.CSTTransformer):
        depth = 0

        def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
            self.depth += 1

        def leave_FunctionDef(self, original: cst.FunctionDef, updated: cst.FunctionDef) -> cst.FunctionDef:
            self.depth -= 1
            return updated

        def leave_SimpleStatementLine(
            self, original: cst.SimpleStatementLine, updated: cst.SimpleStatementLine
        ) -> cst.SimpleStatementLine:
            words = self.words(cst.Module([]).code_for_node(original.with_changes(leading_lines=[])).strip())
            if not words:
                return updated
            trailing = cst.TrailingWhitespace(cst.SimpleWhitespace("  "), cst.Comment(f"# {words}"))
            return updated.with_changes(trailing_whitespace=trailing)

        def leave_If(self, original: cst.If, updated: cst.If) -> Any:
            head = f"if {cst.Module([]).code_for_node(original.test)}:"
            if RECEIVES.match(head):
                return above(updated, "unpickled: the frame comes as a list, filled after this object was made")
            if UNBINDS.match(head):
                return above(updated, "a negative number: some variables have no value")
            return updated

        def words(self, line: str) -> str:
            if self.depth > 1 and nested:
                return ""  # a nested function counts its own yield points
            if (found := ARRIVES.match(line)) and 0 < int(found[1]) <= len(unit.points):
                return f"yield point {found[1]}: line {unit.points[int(found[1]) - 1].lineno}"
            if SETS_CELL.match(line):
                return "the cell itself, not its contents"
            return "arrived" if LANDS.match(line) else ""

    def above(node: Any, words: str) -> Any:
        comment = cst.EmptyLine(comment=cst.Comment(f"# {words}"))
        return node.with_changes(leading_lines=[cst.EmptyLine(indent=False), comment])

    return cst.parse_module(text).visit(Comment()).code
