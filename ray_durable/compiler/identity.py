"""Which code a frame means: its function's name and fingerprint, and where the code comes from when it has changed.

A coroutine goes on with the code it began with. A frame names that code by a *reference*, a string:
`module:qualname#fingerprint` and, for a function inside it, a path. It is looked up among the durable functions of this
process; then its module is imported; then an upper layer is asked (`set_provider`) for the code that it stored
(`exported`). What happens when the function of that name is there with another fingerprint is the policy:

- `pinned` (default): go on with the stored code, in the globals of today's module;
- `strict`: raise CodeChangedError, which shows the difference;
- a hook of `@fn.upgrade` goes before both: it gets the old locals and yield point, and returns the new ones.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from ray_durable.compiler import sources
from ray_durable.compiler.functions import globals_of, namespace_of, used_globals
from ray_durable.compiler.unit import Compiled, Source, Unit
from ray_durable.errors import CodeChangedError, CompileError, RestoreError

Policy = Literal["pinned", "strict"]
Upgrade = Callable[[dict[str, Any], int], tuple[dict[str, Any], int]]

# module, qualname → the text of that function in this process now, and its globals. Not the function: one that was
# defined in another would be kept for ever, with all that its closure holds
CURRENT: dict[tuple[str, str], tuple[Source, dict[str, Any]]] = {}
EXPORTED: dict[str, bytes] = {}
UPGRADES: dict[tuple[str, str], Upgrade] = {}


class Settings:
    """Process-wide choices of the layers above."""

    policy: Policy = "pinned"
    provider: Callable[[str], bytes | None] | None = None


def set_policy(policy: Policy) -> None:
    """What to do with a frame whose function has changed: go on with the stored code, or refuse it."""
    Settings.policy = policy


def set_provider(provider: Callable[[str], bytes | None] | None) -> None:
    """Where to get stored code from: a function from a key of `exported()` to the bytes stored under it, or None."""
    Settings.provider = provider


def exported() -> Mapping[str, bytes]:
    """What must be stored beside the checkpoints: by key, all code that frames pickled in this process refer to.

    It only grows, in order: after a pickle, store what was added since before the checkpoint counts as durable."""
    return MappingProxyType(EXPORTED)


def remember(compiled: Compiled) -> None:
    """Register a durable function, so that frames find it by its fingerprint."""
    source = compiled.source
    CURRENT[source.module, source.qualname] = source, compiled.original.__globals__


def set_upgrade(source: Source, hook: Upgrade) -> Upgrade:
    """What `@fn.upgrade` does: `hook` leads frames of older versions of `fn` into this one."""
    UPGRADES[source.module, source.qualname] = hook
    return hook


class Code:
    """All units of one function's source, in the globals that they run in; what a reference is resolved to.

    `key` names it in references: `module:qualname#fingerprint`, and a hash of the globals where those go by value."""

    __slots__ = ("__weakref__", "globals", "hook", "key", "source", "successor", "units")

    def __init__(self, key: str, source: Source, variables: dict[str, Any]) -> None:
        self.key, self.source, self.globals = key, source, variables
        self.units: dict[tuple[str, tuple[int, ...]], Unit] = {}
        self.successor: Code | None = None  # what frames of this code go on with, through `hook`
        self.hook: Upgrade | None = None

    def unit(self, mode: str, path: tuple[int, ...]) -> Unit:
        """The unit at `path` (nested functions by their order) of the function as compiled for `mode`."""
        if mode == "awaitable":
            return self.unit("native", path).awaitable()
        found = self.units.get((mode, path))
        if found is None:
            self.check()
            root = root_unit(self.source, mode)
            self.units.update({(mode, unit.path): unit for unit in (root, *root.nested)})
            found = self.units.get((mode, path))
            if found is None:
                raise RestoreError(f"it has no function at {'.'.join(map(str, path))} inside", self.key)
        return found

    def check(self) -> None:
        """Raise RestoreError where the compiler that made a frame of this code would have numbered it otherwise."""
        made, here = self.key.partition("#")[2].partition("-")[0], key_of(self.source).partition("#")[2]
        if made != here:
            raise RestoreError(
                "its checkpoint is of another version of ray_durable, whose compiler divided this function at other "
                "places. The checkpoint stands: let it end under the version that it began with, or start it anew.",
                self.key.partition("#")[0],
            )

    def __reduce__(self) -> tuple[Any, ...]:
        namespace = namespace_of(self.globals)
        used = used_globals(sources.code_of(self.source), namespace)
        return new_code, (self.key, self.source, namespace), used, None, None, fill_code


def root_unit(source: Source, mode: Any) -> Unit:
    """The unit of a function's own body, compiled now if need be."""
    from ray_durable.compiler import pipeline

    return pipeline.compile_source(source, mode)


@lru_cache(maxsize=4096)
def key_of(source: Source) -> str:
    """How references name the code of a function: shortened, as one function never has many versions."""
    from ray_durable.compiler import pipeline

    return f"{source.module}:{source.qualname}#{pipeline.fingerprint_of(source)[:16]}"


CODES: dict[str, Code] = {}  # by key


def code_for(key: str) -> Code:
    """What a key means in this process.

    Raises: CodeChangedError, when the function is there with another fingerprint, and the code that the frame began
    with is neither stored nor allowed; RestoreError when there is nothing by that name."""
    found = CODES.get(key)
    if found is None:
        found = CODES[key] = resolved(key)
    return found


def resolved(key: str) -> Code:
    name, _, fingerprint = key.partition("#")
    module_name, _, qualname = name.partition(":")
    current = None if "-" in fingerprint else current_source(module_name, qualname)
    if current is not None and key_of(current[0]) == key:
        return Code(key, *current)
    stored = stored_code(key)
    if current is None:
        if stored is not None:
            return stored
        raise RestoreError("no function of that name can be imported, and no code is stored for it", name)
    hook = UPGRADES.get((module_name, qualname))
    if stored is None or (hook is None and Settings.policy == "strict"):
        raise changed(name, current[0], stored.source if stored is not None else None)
    code = Code(key, stored.source, current[1])
    if hook is not None:
        code.successor, code.hook = Code(key_of(current[0]), *current), hook
    return code


def current_source(module_name: str, qualname: str) -> tuple[Source, dict[str, Any]] | None:
    """The source and globals of the function of that name in this process; None if there is none."""
    try:
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
    except ImportError:
        return None
    known = CURRENT.get((module_name, qualname))
    if known is not None:
        return known
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    found = getattr(found, "__func__", found)  # an undecorated helper is compiled when it is needed
    if not isinstance(found, types.FunctionType):
        return None
    try:
        return sources.source_of(found), found.__globals__
    except CompileError:
        return None


def stored_code(key: str) -> Code | None:
    """The code that an upper layer stored under `key`."""
    data = Settings.provider(key) if Settings.provider is not None else None
    if data is None:
        return None
    code = pickle.loads(data)
    if not isinstance(code, Code):
        raise RestoreError("what is stored as its code is something else", key)
    EXPORTED.setdefault(key, data)
    code.key = key
    return code


def changed(name: str, now: Source, before: Source | None) -> CodeChangedError:
    """The error that shows what has changed."""
    if before is None:
        reason = (
            "its code has changed since this coroutine began, and the code that it began with is not stored. "
            "Bring that version back, or start the coroutine anew."
        )
        return CodeChangedError(reason, name)
    lines = difflib.unified_diff(
        before.text.splitlines(), now.text.splitlines(), "when it began", f"now in {now.filename}", lineterm=""
    )
    reason = "its code has changed since this coroutine began, and the policy is strict. Write an @upgrade hook for it."
    return CodeChangedError(reason, name, "\n".join(lines))


def durable_from(made: types.FunctionType, source: Source) -> types.FunctionType:
    """The durable form of a function that was made from its source."""
    from ray_durable.compiler import decoration

    return decoration.decorated(made, source)


# ---- how frames name their code --------------------------------------------------------------------------------------

BY_VALUE: weakref.WeakValueDictionary[tuple[int, Source], Code] = weakref.WeakValueDictionary()  # id of the globals


def reference(source: Source, variables: dict[str, Any], by_key: bool) -> str | Code:
    """How a pickled frame names its code: by key, or by a `Code` that is written into the pickle."""
    namespace = namespace_of(variables)
    if isinstance(namespace, str) and namespace == source.module and (by_key or is_importable(source)):
        key = key_of(source)
        if by_key and key not in EXPORTED:
            EXPORTED[key] = stored_form(Code(key, source, variables))
        return key
    code = BY_VALUE.get((id(variables), source))
    if code is None:
        code = BY_VALUE[id(variables), source] = Code(key_of(source), source, variables)
    return exported_key(code) if by_key else code


def is_importable(source: Source) -> bool:
    """Whether importing its module finds this very function, in any process."""
    if "<locals>" in source.qualname:
        return False
    current = current_source(source.module, source.qualname)
    return current is not None and key_of(current[0]) == key_of(source)


def exported_key(code: Code) -> str:
    """The key under which a function whose globals go by value is exported: it names the globals too."""
    if "-" not in code.key:
        data = stored_form(code)
        code.key = f"{code.key}-{hashlib.blake2b(data, digest_size=8).hexdigest()}"
        EXPORTED[code.key] = data
        CODES[code.key] = code
    return code.key


def stored_form(code: Code) -> bytes:
    from ray_durable.compiler import references

    return references.dumps(code)


def new_code(key: str, source: Source, namespace: str | dict[str, Any]) -> Code:
    code = Code(key, source, globals_of(namespace))
    BY_VALUE[id(code.globals), source] = code
    return code


def fill_code(code: Code, state: tuple[dict[str, Any], tuple[str, ...]]) -> None:
    """Put the globals that the function names into its namespace."""
    used, submodules = state
    for name in submodules:
        importlib.import_module(name)
    for name, value in used.items():
        code.globals.setdefault(name, value)
