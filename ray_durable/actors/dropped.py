"""What is said of an outcome whose ref was dropped unread: Ray logs it as an unhandled error, with its traceback.

That is right for a failure that nobody has seen. It is not for a coroutine that somebody cancelled on purpose: that is
kept quiet. A name that was taken is said in one line, as nothing was started. Whoever asks for a result gets the error.
"""

from __future__ import annotations

import logging

from ray_durable.actors.outcomes import Failure
from ray_durable.errors import CoroutineCancelledError, NameTakenError

__all__ = ["Unread", "install"]

LOGGER = "ray._private.worker"
UNREAD = "Unhandled error"


def full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}: "


CANCELLED = full_name(Failure) + full_name(CoroutineCancelledError)  # itself, not one that waited for a cancelled one
TAKEN = full_name(NameTakenError)


class Unread(logging.Filter):
    """Ray's words for an error that nobody asked for, as text: it hands on nothing else."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not text.startswith(UNREAD):
            return True
        lines = text.splitlines()
        if any(line.startswith(CANCELLED) for line in lines):
            return False
        if lines[-1].startswith(TAKEN):
            record.msg, record.args = lines[-1].removeprefix(TAKEN), ()
        return True


def install() -> None:
    """From now on, in this process."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(each, Unread) for each in logger.filters):
        logger.addFilter(Unread())
