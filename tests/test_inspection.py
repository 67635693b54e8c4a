"""A coroutine's picture: short, true, in the user's lines, and made without running a line of the user's code."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from ray_durable.compiler import capture, durable
from ray_durable.inspection import BranchView, CoroutineView, FrameView, LocalView, shorten, view_frames, view_local


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Order:
    id: int
    items: list[int]


class Hostile:
    def __init__(self):
        object.__setattr__(self, "x", 1)

    def __repr__(self):
        raise AssertionError("user code was run")

    def __getattribute__(self, name):
        raise AssertionError("user code was run")

    def __len__(self):
        raise AssertionError("user code was run")

    __iter__ = __str__ = __len__


class Slotted:
    __slots__ = ("a",)


VALUES = [
    (7, "7"),
    (10**5000, "int of about 5000 digits"),
    (True, "True"),
    (None, "None"),
    ("short", "'short'"),
    ("x" * 1000, f"{'x' * 48!r}… 1,000 characters"),
    (b"y" * 1000, f"{b'y' * 48!r}… 1,000 bytes"),
    ([1, 2], "[1, 2]"),
    ((1,), "(1,)"),
    (set(), "set()"),
    ({"a": [1, {"b": [2]}]}, "{'a': [1, {'b': list of 1}]}"),
    (list(range(100_000)), "list of 100,000: [0, 1, 2, 3, …]"),
    ({i: i for i in range(9)}, "dict of 9: {0: 0, 1: 1, 2: 2, 3: 3, …}"),
    (Order(42, [1]), "Order(id=42, items=[1])"),
    (Hostile(), "Hostile(x=1)"),
    (Slotted(), "<Slotted>"),
    (Color.RED, "Color.RED"),
    (Order, "class"),
    (np.zeros((3, 4)), "ndarray (3, 4) float64"),
    (pd.DataFrame({"a": [1]}), "DataFrame (1, 1)"),
    (datetime.date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
    (pathlib.Path("/tmp"), "PosixPath('/tmp')"),
    (len, "builtin_function_or_method len"),
]


@pytest.mark.parametrize("value, text", VALUES, ids=[str(i) for i in range(len(VALUES))])
def test_values_in_a_few_words(value, text):
    shown = shorten(value)
    assert shown.startswith(text)
    assert len(shown) <= 72
    if value is not Order:
        assert shown == text


def test_a_cycle_ends():
    loop: list = []
    loop.append(loop)
    assert shorten(loop) == "[[[list of 1]]]"


def test_large_values_show_their_size():
    local = view_local("page", b"x" * 3_000_000)
    assert local.size_bytes == 3_000_000
    assert local.value.endswith("3,000,000 bytes (2.9 MiB)")
    assert view_local("a", np.zeros(1000)).size_bytes == 8000
    assert view_local("n", 3).size_bytes is None


VIEW = CoroutineView(
    id="0f" * 16,
    name="order-42",
    function="shop.pipeline",
    state="running",
    node="n1",
    epoch=2,
    seq=17,
    branches=(
        BranchView(
            0,
            "a message under 'approval'",
            (
                FrameView(
                    "pipeline", "/app/shop.py", 12, "x = yield from helper(<b>)", (LocalView("t", "str", "'<i>'"),)
                ),
                FrameView("helper", "/app/shop.py", 3, "yield", ()),
            ),
        ),
    ),
)


def test_text_reads_like_a_traceback():
    assert str(VIEW).splitlines()[-6:] == [
        "  waits for a message under 'approval'",
        '  File "/app/shop.py", line 12, in pipeline',
        "    x = yield from helper(<b>)",
        "      t = '<i>'",
        '  File "/app/shop.py", line 3, in helper',
        "    yield",
    ]
    assert "seq 17, epoch 2" in str(VIEW)
    assert "error" not in str(VIEW)


def test_html_escapes_what_is_the_users():
    page = VIEW._repr_html_()
    assert "&lt;b&gt;" in page
    assert "&#x27;&lt;i&gt;&#x27;" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_plain_form_is_json():
    assert json.loads(json.dumps(VIEW.to_plain()))["branches"][0]["frames"][0]["locals"][0]["name"] == "t"


@durable
def delegating(label):
    answer = yield from inner(label)
    return answer


def inner(label):
    secret = object()
    got = yield len(label)
    return got, secret


def test_frames_show_the_users_lines_and_locals_outermost_first():
    suspended = delegating("abc")
    next(suspended)
    lines = pathlib.Path(__file__).read_text().splitlines()
    first, second = view_frames(capture(suspended))
    assert (first.function, second.function) == ("delegating", "inner")
    assert first.source == "answer = yield from inner(label)"
    assert second.source == "got = yield len(label)"
    for frame in (first, second):
        assert lines[frame.line - 1].strip() == frame.source
        assert frame.file == __file__
    assert {local.name: local.value for local in second.locals} == {"label": "'abc'", "secret": "<object>"}
    with pytest.raises(StopIteration) as stop:  # looking has not disturbed it
        suspended.send("on")
    assert stop.value.value[0] == "on"
