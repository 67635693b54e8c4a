"""Structured logs: one line per event, with the ids that say whose it was, in a file among Ray's own log files.

An event has a name in snake_case and facts: `log.info("adopted", coroutine="order-42", epoch=3, seq=17)`. Written as
`time level event key=value …` or as JSON, by the setting `log_format`. The file is not one that Ray copies to drivers'
terminals (those are `worker-*`), so a user sees none of it unasked; `ray logs ray_durable*` and the dashboard show it.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ray_durable.config import Settings

__all__ = ["EventLog", "open_event_log"]

FILE_BYTES_MAX = 50_000_000
FILES_KEPT = 3
PLAIN = re.compile(r"[^\s\"'=]+")


class EventLog:
    """Writes events, each with the facts bound to this log (role, node, host) and its own."""

    def __init__(self, logger: logging.Logger, **bound: Any) -> None:
        self.logger, self.bound = logger, bound

    def bind(self, **facts: Any) -> EventLog:
        """A log that adds `facts` to every event; the file and the level stay shared."""
        return EventLog(self.logger, **{**self.bound, **facts})

    def debug(self, event: str, **facts: Any) -> None:
        self.write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self.write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self.write(logging.WARNING, event, facts)

    def error(self, event: str, error: BaseException | None = None, **facts: Any) -> None:
        """Write an event that went wrong; `error` adds its type, message and traceback."""
        if error is not None:
            facts["error"] = f"{type(error).__name__}: {error}"
            facts["traceback"] = "".join(traceback.format_exception(error))
        self.write(logging.ERROR, event, facts)

    def write(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(level, event, extra={"facts": {**self.bound, **facts}})

    def close(self) -> None:
        for handler in list(self.logger.handlers):
            self.logger.removeHandler(handler)
            handler.close()


class TextFormatter(logging.Formatter):
    """`2026-11-22T13:34:10.123Z info adopted coroutine=order-42 seq=17`; values with spaces are quoted as in JSON."""

    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        pairs = [f"{name}={as_word(value)}" for name, value in facts.items() if value is not None]
        return " ".join([stamp(record), record.levelname.lower(), record.getMessage(), *pairs])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `event`, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"time": stamp(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps({**head, **getattr(record, "facts", {})}, default=str)


def stamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def as_word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def open_event_log(role: str, settings: Settings, directory: Path | None = None, **bound: Any) -> EventLog:
    """Start the log of a process: `ray_durable_<role>.log` in `directory` (None: stderr), by the settings of logs.

    `role` names the process (`controller`, a host's incarnation) and is in every event, as is what `bound` says.
    Files are rotated at 50 MB, three kept. Raises: OSError when the file cannot be written.
    Example: log = open_event_log(incarnation, settings, cluster.log_directory(), node=node)
    """
    logger = logging.Logger("ray_durable", logging.getLevelNamesMapping()[settings.log_level.upper()])
    if directory is None:
        handler: logging.Handler = logging.StreamHandler()
    else:
        path = directory / f"ray_durable_{role}.log"
        handler = RotatingFileHandler(path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logger.addHandler(handler)
    return EventLog(logger, role=role, **bound)
