"""`csv.reader` in frames, and in a `csv.DictReader`: between two rows it is a source, a dialect and a line number."""

from __future__ import annotations

import _csv
import gc
from typing import Any

__all__ = ["REDUCERS", "CsvReader"]

DIALECT: type = type(_csv.reader([]).dialect)
PARAMETERS = (
    "delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting", "skipinitialspace", "strict",
)  # fmt: skip


class CsvReader:
    """A reader that was captured: it goes on with the next row, and counts lines on."""

    __slots__ = ("lines_before", "reader", "source")

    def __init__(self, source: Any, parameters: dict[str, Any], lines_before: int) -> None:
        self.source, self.lines_before = source, lines_before
        self.reader = _csv.reader(source, **parameters)

    @property
    def line_num(self) -> int:
        return self.lines_before + self.reader.line_num

    @property
    def dialect(self) -> Any:
        return self.reader.dialect

    def __iter__(self) -> CsvReader:
        return self

    def __next__(self) -> list[str]:
        return next(self.reader)

    def __reduce__(self) -> tuple[Any, ...]:
        return CsvReader, (self.source, parameters_of(self.dialect), self.line_num)


def parameters_of(dialect: Any) -> dict[str, Any]:
    return {name: getattr(dialect, name) for name in PARAMETERS}


def reduce_reader(reader: Any) -> tuple[Any, ...]:
    """A reader keeps no half-read row between two steps; what it reads from is the only other thing it refers to."""
    ours = (DIALECT, list, type)  # its dialect, the fields of a row, its own type
    source = next(each for each in gc.get_referents(reader) if type(each) not in ours)
    return CsvReader, (source, parameters_of(reader.dialect), reader.line_num)


REDUCERS = {_csv.Reader: reduce_reader}
