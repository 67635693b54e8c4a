"""From statements to code objects: a factory gives the function its closure, constants get the run-time helpers.

The tree carries the positions of the source and is compiled under the user's file name, so that tracebacks, carets and
debuggers show the user's own lines. Nested functions are found again in the code by a mark in their docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from ray_durable.compiler import support
from ray_durable.compiler.passes.build import HELPER_MARK, constant, load, located

NESTED_MARK = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}ray_durable unit\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "
FUTURE_FLAGS = 0x1FE0000  # every `from __future__` flag of co_flags
NAME_ENDS = "\n"


def mark(path: tuple[int, ...], docstring: str | None) -> ast.stmt:
    """The docstring by which `finish` knows a nested function's code; the user's own is put back there."""
    words = NESTED_MARK + ".".join(map(str, path)) + NAME_ENDS
    return ast.Expr(constant(words + ("" if docstring is None else "=" + docstring)))


def function(
    definition: ast.FunctionDef | ast.AsyncFunctionDef, body: Sequence[ast.stmt], is_async: bool, parameters: ast.arguments
) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """A definition with this body, bare of decorators, defaults and annotations: those of the original are kept."""
    kind = ast.AsyncFunctionDef if is_async else ast.FunctionDef
    new = located(kind(definition.name, parameters, list(body) or [ast.Pass()], []), definition)
    new.type_params = []  # type: ignore[attr-defined, unused-ignore]
    return new


def bare(arguments: ast.arguments) -> ast.arguments:
    """Parameters alone. Defaults stay as None: a function's own `__defaults__` count."""

    def plain(argument: ast.arg | None) -> ast.arg | None:
        return None if argument is None else located(ast.arg(argument.arg), argument)

    def every(found: list[ast.arg]) -> list[ast.arg]:
        return [located(ast.arg(argument.arg), argument) for argument in found]

    return ast.arguments(
        every(arguments.posonlyargs), every(arguments.args), plain(arguments.vararg), every(arguments.kwonlyargs),
        [constant(None)] * len(arguments.kwonlyargs), plain(arguments.kwarg), [],
    )  # fmt: skip


def code_of(
    definition: ast.FunctionDef | ast.AsyncFunctionDef,
    free: Sequence[str],
    filename: str,
    qualname: str,
    flags: int,
    found: Callable[[tuple[int, ...], CodeType], None],
) -> CodeType:
    """Compile a definition whose free variables are `free`. `found(path, code)` is told of each nested function."""
    returned = located(ast.Return(load(definition.name)), definition)
    parameters = ast.arguments([], [ast.arg(name) for name in dict.fromkeys(free)], None, [], [], None, [])
    factory = located(ast.FunctionDef("factory", parameters, [definition, returned], []), definition)
    factory.type_params = []  # type: ignore[attr-defined, unused-ignore]
    module = ast.fix_missing_locations(ast.Module([factory], []))
    compiled = compile(module, filename, "exec", flags & FUTURE_FLAGS, dont_inherit=True, optimize=-1)
    outer = next(each for each in compiled.co_consts if isinstance(each, CodeType))
    code = next(each for each in outer.co_consts if isinstance(each, CodeType))
    return finish(code, code.co_qualname, qualname, found)


def finish(code: CodeType, made: str, wanted: str, found: Callable[[tuple[int, ...], CodeType], None]) -> CodeType:
    """Put helpers, docstrings and qualified names into a code object and those nested in it."""
    constants: list[Any] = []
    path: tuple[int, ...] | None = None
    for each in code.co_consts:
        if isinstance(each, CodeType):
            each = finish(each, made, wanted, found)
        elif isinstance(each, str):
            if each.startswith(HELPER_MARK):
                each = support.HELPERS[each[len(HELPER_MARK) :]]
            elif each.startswith(NESTED_MARK):
                numbers, _, rest = each[len(NESTED_MARK) :].partition(NAME_ENDS)
                path = tuple(map(int, numbers.split(".")))
                each = rest[1:] if rest else None
        constants.append(each)
    qualname = code.co_qualname
    if qualname == made or qualname.startswith(made + "."):
        qualname = wanted + qualname[len(made) :]
    code = code.replace(co_consts=tuple(constants), co_qualname=qualname)
    if path is not None:
        found(path, code)
    return code
