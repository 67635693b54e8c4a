"""The options of `@ray_durable.remote` and `.options()`: which there are, and which values each takes.

They are checked where they are given: a value that cannot be would otherwise show up on a host, or in the storage.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from ray_durable.errors import OptionError

__all__ = ["OPTIONS", "check_options"]

ELSEWHERE = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
PLUGINS = "RAY_RUNTIME_ENV_PLUGINS"  # names plugins, which have fields of their own
CHECKED_WHERE_IT_IS_USED = ("working_dir", "py_modules")  # paths of the driver's machine
FILES_OR_NAMES = ("pip", "uv", "conda")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def quantity(value: Any) -> str | None:
    if is_number(value) and value < 0:
        return f"{value!r} is negative: give 0 or more"
    return None if is_number(value) else f"{value!r} is no number: give 0 or more"


def text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else f"{value!r} is no text: give a string that is not empty"


def switch(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{value!r} is neither: give True or False"


def whole(value: Any) -> str | None:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= -1
    return None if right else f"{value!r} does not count: give a whole number from 0 on, or -1 for no limit"


def seconds(value: Any) -> str | None:
    return None if is_number(value) and value > 0 else f"{value!r}: give a number of seconds above 0"


def resources(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{value!r} is no mapping: give a dict of names and quantities"
    for name, amount in value.items():
        if name in ELSEWHERE:
            return f"{name!r} has an option of its own: give {ELSEWHERE[name]}={amount!r}"
        wrong = text(name) or quantity(amount)
        if wrong is not None:
            return f"{name!r}: {wrong}"
    return None


def labels(value: Any) -> str | None:
    right = isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)
    return None if right else f"{value!r} selects no labels: give a dict of label names and what they are to be"


def exceptions(value: Any) -> str | None:
    kinds = value if isinstance(value, list | tuple) else ()
    right = isinstance(value, bool | list | tuple)
    if right and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return None
    return f"{value!r}: give True, False or a list of exception classes"


def strategy(value: Any) -> str | None:
    if value in ("DEFAULT", "SPREAD"):
        return None
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if isinstance(value, NodeAffinitySchedulingStrategy):
        return None
    return f"{value!r}: give DEFAULT, SPREAD or a NodeAffinitySchedulingStrategy"


def runtime_env(value: Any) -> str | None:
    """Ray's own checks, and that there is no field which Ray does not know: it would be left out in silence. Whether a
    path is there is not asked: the module may be imported, and this option given, on another machine."""
    from ray.runtime_env import RuntimeEnv

    if not isinstance(value, Mapping):
        return f"{value!r} is no mapping: give a dict, as for Ray's runtime_env"
    known = RuntimeEnv.known_fields
    unknown = [name for name in value if name not in known]
    if unknown and PLUGINS not in os.environ:
        fields = ", ".join(sorted(name for name in known if not name.startswith("_")))
        return f"Ray knows no field {unknown[0]!r}: give some of {fields}"
    paths = {name for name in FILES_OR_NAMES if isinstance(value.get(name), str)}.union(CHECKED_WHERE_IT_IS_USED)
    try:
        RuntimeEnv(**{name: field for name, field in value.items() if name not in paths})
    except (TypeError, ValueError) as error:
        return f"Ray refuses it: {error}".rstrip(".")
    return None


OPTIONS: dict[str, Callable[[Any], str | None]] = {
    "num_cpus": quantity,
    "num_gpus": quantity,
    "memory": quantity,
    "resources": resources,
    "label_selector": labels,
    "scheduling_strategy": strategy,
    "runtime_env": runtime_env,
    "name": text,
    "namespace": text,
    "get_if_exists": switch,
    "max_retries": whole,
    "retry_exceptions": exceptions,
    "checkpoint_every": seconds,
    "keep_history": switch,
    "_generator_backpressure_num_objects": whole,
}
"""By option: what is wrong with a value, and what to give instead; None if nothing is. None is the default."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raises: OptionError."""
    for name, value in options.items():
        if name not in OPTIONS:
            raise OptionError(name, f"there is no such option; there are {', '.join(sorted(OPTIONS))}")
        wrong = None if value is None else OPTIONS[name](value)
        if wrong is not None:
            raise OptionError(name, wrong)
