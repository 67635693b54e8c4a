"""`ray_durable.open`: what is read with restores in between is what a native file gives."""

from __future__ import annotations

import builtins
import csv
import io
import os
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_durable.compiler import durable
from ray_durable.compiler.references import dumps
from ray_durable.compiler.reopening import open
from ray_durable.errors import CannotReopenError

LINES = [
    "plain\n",
    "\n",
    "ünïcödé 漢字 🐍\n",
    "carriage\r",
    "both\r\n",
    "é" * 3000 + "\n",
    "tab\tand \x85 and \u2028\n",
    "last",
]
TEXT = "".join(LINES) * 3
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "shift_jis", "latin-1"]
NEWLINES = [None, "", "\n", "\r", "\r\n"]


def written(directory, text, encoding):
    path = directory / "file"
    path.write_bytes(text.encode(encoding, "replace"))
    return path


def again(made):
    copy = pickle.loads(dumps(made))
    made.close()
    return copy


@durable
def lines_of(file):
    with file:
        for line in file:
            yield line


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_loop_over_lines_goes_on_at_every_line(tmp_path, encoding, newline):
    path = written(tmp_path, TEXT, encoding)
    with builtins.open(path, encoding=encoding, newline=newline) as native:
        expected = list(native)
    made, found = lines_of(open(path, encoding=encoding, newline=newline)), []
    while (line := next(made, None)) is not None:
        found.append(line)
        original, made = made, pickle.loads(dumps(made))
        original.close()
    assert found == expected


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(st.sampled_from("ab\r\n\r\né漢🐍\x85"), max_size=60),
    encoding=st.sampled_from([*ENCODINGS, "iso2022_jp", "utf-7", "big5", "cp1252"]),
    newline=st.sampled_from(NEWLINES),
    steps=st.lists(
        st.tuples(st.sampled_from(["read", "readline", "next", "tell"]), st.integers(-1, 9), st.booleans()), max_size=30
    ),
)
def test_text_is_read_as_natively_in_pieces_of_any_size(tmp_path, text, encoding, newline, steps):
    path = written(tmp_path, text, encoding)
    made = open(path, encoding=encoding, newline=newline)
    with builtins.open(path, encoding=encoding, newline=newline) as native:
        for what, size, is_restored in steps:
            if what == "next":
                assert next(made, None) == (native.readline() or None)
            elif what == "tell":
                try:
                    made.seek(made.tell())
                except (OSError, ValueError):
                    assert encoding in ("utf-8-sig", "utf-7")  # so do native files
            else:
                assert getattr(made, what)(size) == getattr(native, what)(size)
            if is_restored:
                made = again(made)
        assert made.read() == native.read()
    made.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(max_size=80),
    buffering=st.sampled_from([-1, 0, 7]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["read", "read1", "readline", "seek", "readinto"]), st.integers(0, 90), st.booleans()
        ),
        max_size=20,
    ),
)
def test_bytes_are_read_as_natively_in_pieces_of_any_size(tmp_path, data, buffering, steps):
    path = tmp_path / "file"
    path.write_bytes(data)
    made = open(path, "rb", buffering)
    with builtins.open(path, "rb") as native:
        for what, size, is_restored in steps:
            if what == "readinto":
                one, other = bytearray(size), bytearray(size)
                assert (made.readinto(one), one) == (native.readinto(other), other)
            elif what == "read1":
                assert native.read(len(got := made.read1(size))) == got
            else:
                assert getattr(made, what)(size) == getattr(native, what)(size)
            assert made.tell() == native.tell()
            if is_restored:
                made = again(made)
        assert list(made) == list(native)
    made.close()


def test_the_position_is_that_of_the_frame_however_far_the_original_went_on(tmp_path):
    path = written(tmp_path, TEXT, "utf-8")
    made = open(path, encoding="utf-8", newline="")
    first = next(made)
    saved = dumps([made, made])
    rest = list(made)
    one, other = pickle.loads(saved)
    assert one is other
    assert [first, *one] == [first, *rest]
    made.close()
    one.close()


def test_it_is_opened_only_when_it_is_used(tmp_path):
    path = written(tmp_path, "one\ntwo\n", "utf-8")
    with open(path) as made:
        next(made)
        saved = dumps(made)
    path.unlink()
    unused = pickle.loads(pickle.dumps(pickle.loads(saved)))
    path.write_text("one\ntwo\nthree\n")  # what was appended meanwhile is read
    assert unused.readlines() == ["two\n", "three\n"]
    unused.close()
    assert pickle.loads(dumps(unused)).closed


def test_a_file_that_is_gone_or_shorter_says_so(tmp_path):
    path = written(tmp_path, "one\ntwo\n", "utf-8")
    with open(path) as made:
        next(made)
        gone, shorter, never_used = (pickle.loads(dumps(made)) for _ in range(3))
    path.write_text("one\n")
    with pytest.raises(CannotReopenError, match=r"file cannot be read on from position 4, .*it had 8 bytes, and has 4"):
        shorter.read()
    path.unlink()
    with pytest.raises(CannotReopenError, match="No such file") as caught:
        next(gone)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.path, error.reason, error.position) == (str(path), "No such file or directory", 4)
    assert isinstance(error, OSError)
    never_used.close()
    with pytest.raises(ValueError, match="closed file"):
        never_used.read()


@pytest.mark.parametrize("mode", ["w", "a", "x", "r+", "rb+", "wt"])
def test_modes_that_write_are_refused(tmp_path, mode):
    path = tmp_path / "new"
    with pytest.raises(CannotReopenError, match=f"mode '{mode[0]}.*writes.*builtin `open`"):
        open(path, mode)
    assert not path.exists()


def test_what_cannot_be_opened_again_is_refused(tmp_path):
    with pytest.raises(CannotReopenError, match="give a path"):
        open(0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    with pytest.raises(CannotReopenError, match="pipe"):
        open(pipe)
    os.close(held)
    with pytest.raises(FileNotFoundError):
        open(tmp_path / "none")
    with pytest.raises(ValueError, match="mode"):
        open(pipe, "z")


def test_it_is_a_file_to_those_who_ask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, "a,b\n1,2\n", "utf-8")
    with open("file", newline="") as text, open(path, "rb") as data:
        assert (text.name, text.mode, data.name, data.mode) == ("file", "r", str(path), "rb")
        assert isinstance(text, io.TextIOBase)
        assert isinstance(data, io.BufferedIOBase)
        assert list(csv.reader(text)) == [["a", "b"], ["1", "2"]]
        assert data.peek(1)[:1] == b"a"
        assert (text.readable(), text.seekable(), text.writable(), text.encoding) == (True, True, False, "UTF-8")
        with pytest.raises(io.UnsupportedOperation):
            text.write("x")
        monkeypatch.chdir("/")
        copy = again(text)
        copy.seek(0)
        assert (copy.read(), copy.newlines) == ("a,b\n1,2\n", "\n")
        copy.close()
    assert text.closed
    assert data.closed
