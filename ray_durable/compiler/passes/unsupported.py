"""The allow-list: what is not on it is refused before anything is compiled, with its place and what to write instead.

Goal    every construct that later passes meet is one that they know, on this Python and on later ones.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ray_durable.compiler.passes.scopes import annotation_parts
from ray_durable.compiler.passes.walking import children
from ray_durable.compiler.unit import Source
from ray_durable.errors import UnsupportedSyntaxError

STATEMENTS = """Assert Assign AnnAssign AsyncFor AsyncFunctionDef AsyncWith AugAssign Break ClassDef Continue
    Delete Expr For FunctionDef Global If Import ImportFrom Match Nonlocal Pass Raise Return Try TryStar TypeAlias
    While With"""
EXPRESSIONS = """Attribute Await BinOp BoolOp Call Compare Constant Dict DictComp FormattedValue GeneratorExp IfExp
    JoinedStr Lambda List ListComp Name NamedExpr Set SetComp Slice Starred Subscript Tuple UnaryOp Yield YieldFrom"""
PARTS = """ExceptHandler MatchAs MatchClass MatchMapping MatchOr MatchSequence MatchSingleton MatchStar MatchValue
    ParamSpec TypeVar TypeVarTuple alias arg arguments comprehension keyword match_case withitem"""
ALLOWED = frozenset(f"{STATEMENTS} {EXPRESSIONS} {PARTS}".split())


def refuse_unknown(definition: ast.AST, source: Source) -> None:
    """Raise UnsupportedSyntaxError for the first construct that is not on the list."""
    stack: list[ast.AST] = [definition]
    while stack:
        node = stack.pop()
        if type(node).__name__ not in ALLOWED:
            refuse(
                node, f"{type(node).__name__} is not known to this version of ray_durable", "write it without", source
            )
        stack.extend(children(node))
        if isinstance(node, ast.TryStar):
            refuse_yields([each.type for each in node.handlers if each.type], "the type of an except*", "try", source)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node is not definition:
            refuse_yields(annotation_parts(node), "an annotation", "def", source)


def refuse_yields(nodes: Sequence[ast.AST], where: str, before: str, source: Source) -> None:
    """Raise the error if there is a yield point in one of these expressions, which are evaluated in this function."""
    stack: list[ast.AST] = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
            refuse(node, f"{where} cannot suspend", f"assign it to a variable before the `{before}`", source)
        if not isinstance(node, ast.Lambda):
            stack.extend(children(node))


def refuse(node: ast.AST, what: str, instead: str, source: Source) -> None:
    """Raise the error for a construct at its place."""
    line = getattr(node, "lineno", source.firstlineno)
    raise UnsupportedSyntaxError(f"in {source.qualname}(): {what}. Instead: {instead}.", source.filename, line)
