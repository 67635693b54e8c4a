"""`resource`: a local that is made again where its coroutine lives, instead of being saved: a connection, a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Resource", "resource"]

UNMADE = object()


class Resource:
    """Stands for `factory(*args, **kwargs)`, which it makes when it is first used on each host.

    Attributes, calls, items and iteration are those of the object itself, which is `resource.value`. In a frame it is
    saved as the call that makes it. A `with` block enters it; after a move it is entered again when it is first used,
    and the block's end leaves it only if it was. `async with` enters it once: after a move it is made, not entered."""

    def __init__(self, factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = (factory, args, kwargs)
        self._made: Any = UNMADE
        self._is_entered = False  # by `with`
        self._entered: Any = UNMADE

    def __reduce__(self) -> tuple[Any, ...]:
        return again, (*self._call, self._is_entered)

    @property
    def value(self) -> Any:
        """The object itself; within `with`, what its `__enter__` returned. Do not keep it across a yield point."""
        if self._made is UNMADE:
            factory, args, kwargs = self._call
            self._made = factory(*args, **kwargs)
        if self._is_entered and self._entered is UNMADE:
            self._entered = self._made.__enter__()
        return self._made if self._entered is UNMADE else self._entered

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # never of the object while pickle asks about this one
            raise AttributeError(name)
        return getattr(self.value, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.value(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __setitem__(self, key: Any, item: Any) -> None:
        self.value[key] = item

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __enter__(self) -> Resource:
        self._is_entered = True
        try:
            self.value  # noqa: B018 - enters it
        except BaseException:
            self._is_entered = False
            raise
        return self

    def __exit__(self, *failure: Any) -> Any:
        made, entered = self._made, self._entered
        self._is_entered, self._entered = False, UNMADE
        return None if entered is UNMADE else made.__exit__(*failure)

    async def __aenter__(self) -> Resource:
        self._entered = await self.value.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> Any:
        made, entered = self._made, self._entered
        self._entered = UNMADE
        return None if entered is UNMADE else await made.__aexit__(*failure)

    def __repr__(self) -> str:
        return f"<resource {getattr(self._call[0], '__qualname__', self._call[0])}>"


def again(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], is_entered: bool) -> Resource:
    found = Resource(factory, args, kwargs)
    found._is_entered = is_entered
    return found


def resource(factory: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`factory(*args, **kwargs)`, as a local that need not be saved: it is made when it is first used, and made again
    on demand after a resume. See `Resource`.

    Example: database = ray_durable.resource(connect, "postgres://…"); database.execute(…)"""
    return Resource(factory, args, kwargs)
