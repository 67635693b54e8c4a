"""Files in frames."""

from __future__ import annotations

import io
import pickle

import pytest

from ray_durable.compiler.references import dumps


@pytest.mark.parametrize("mode", ["r", "w", "rb", "wb", "r+b"])
def test_a_closed_file_comes_back_closed(tmp_path, mode):
    path = tmp_path / "file"
    path.write_text("text")
    with open(path, mode) as file:
        pass
    again = pickle.loads(dumps([file, file]))
    assert again[0] is again[1]
    assert again[0].closed
    assert isinstance(again[0], io.TextIOBase if "b" not in mode else io.BufferedIOBase)
    with pytest.raises(ValueError):
        again[0].read()


def test_an_open_file_is_refused_by_name(tmp_path):
    with open(tmp_path / "precious", "w") as file, pytest.raises(TypeError, match="precious"):
        dumps(file)
