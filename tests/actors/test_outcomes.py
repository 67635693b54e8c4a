"""What a coroutine's call and its end are saved as."""

from __future__ import annotations

import threading

import pytest
import ray

from ray_durable.actors.outcomes import pack_outcome
from ray_durable.actors.starting import prepare
from ray_durable.checkpoint.codec import loads
from ray_durable.compiler import durable
from ray_durable.errors import CannotSaveError, CoroutineCancelledError


class Holds(Exception):
    def __init__(self):
        super().__init__("held")
        self.lock = threading.Lock()


def failed_call(cause, text):
    return ray.exceptions.RayTaskError("task", text, cause).as_instanceof_cause()


def test_the_error_of_a_failed_call_is_saved_as_its_cause_and_keeps_its_text():
    inner = failed_call(ValueError("no such order"), "Traceback\n  in the task: line 7")
    ending, payload, text = pack_outcome("1", "shop.order", "failed", inner)
    assert ending == "failed"
    assert type(loads(payload)) is ValueError
    assert "no such order" in str(loads(payload))
    assert "in the task: line 7" in text


def test_what_cancelled_it_does_not_matter():
    ending, payload, _ = pack_outcome("1", "shop.order", "cancelled", KeyError("x"))
    assert (ending, type(loads(payload))) == ("cancelled", CoroutineCancelledError)


@pytest.mark.parametrize(
    ("ending", "value", "told"),
    [
        ("completed", threading.Lock(), "The return value of shop.order() cannot be saved: it is a _thread.lock"),
        ("completed", [1, {"a": threading.Lock()}], "its [1]['a'] is a _thread.lock"),
        ("failed", Holds(), "The exception of shop.order() cannot be saved"),
    ],
)
def test_what_cannot_be_saved_is_said_of_what_the_function_gave(ending, value, told):
    ending, payload, text = pack_outcome("1", "shop.order", ending, value)
    error = loads(payload)
    assert ending == "failed"
    assert isinstance(error, CannotSaveError)
    assert told in str(error)
    assert told in text
    assert "''" not in str(error)
    assert ("Holds: held" in text) == isinstance(value, Holds)


@durable
def orders(shop, *items, **extra):
    yield


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((threading.Lock(),), {}, "its ['shop'] is a _thread.lock"),
        (("shop", 1, [threading.Lock()]), {}, "its ['items'][1][0] is a _thread.lock"),
        (("shop",), {"by": threading.Lock()}, "its ['extra']['by'] is a _thread.lock"),
    ],
)
def test_an_argument_that_cannot_be_saved_is_named(args, kwargs, told):
    with pytest.raises(CannotSaveError) as refused:
        prepare(orders, args, kwargs, {})
    assert f"The call of orders() cannot be saved: {told}" in str(refused.value)
