"""Settings: one order of precedence, values checked where they enter, secrets never shown."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest

from ray_durable import config
from ray_durable.config import Secret, Settings, setting_rows, unknown_variables
from ray_durable.errors import SettingError


def test_given_beats_environment_beats_default():
    environ = {"RAY_DURABLE_TURN_SIZE": "64", "RAY_DURABLE_LEASE_S": "2.5"}
    settings = Settings.load(environ, turn_size=8)
    assert (settings.turn_size, settings.lease_s, settings.poll_s) == (8, 2.5, 0.3)


def test_none_and_empty_variable_mean_unset():
    assert Settings.load({"RAY_DURABLE_STORAGE": ""}, storage=None).storage == Settings.load({}).storage


def test_default_storage_is_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings.load({}).storage == str(tmp_path / "ray_durable")


def test_paths_are_taken_as_storage(tmp_path):
    assert Settings.load({}, storage=tmp_path).storage == str(tmp_path)


@pytest.mark.parametrize("text, value", [("1", True), ("off", False), ("TRUE", True), ("no", False)])
def test_switches(text, value):
    assert Settings.load({"RAY_DURABLE_METRICS": text}).metrics is value


@pytest.mark.parametrize(
    "environ, given, says",
    [
        ({"RAY_DURABLE_TURN_SIZE": "many"}, {}, "RAY_DURABLE_TURN_SIZE = 'many': not a number of coroutines"),
        ({"RAY_DURABLE_METRICS": "maybe"}, {}, "not a switch"),
        ({"RAY_DURABLE_CODE_IDENTITY": "loose"}, {}, "give one of pinned, strict"),
        ({"RAY_DURABLE_SIGNING_KEY_FILE": "/no/such/file"}, {}, "cannot read that file"),
        ({}, {"turn_size": 0}, "at least 1"),
        ({}, {"turn_size": True}, "bool given"),
        ({}, {"turn_size": "8"}, "str given"),
        ({}, {"lease_s": 0}, "more than 0"),
        ({}, {"lease_s": float("nan")}, "not a number"),
        ({}, {"metrics_port": 70_000}, "less than 65536"),
        ({}, {"storage": 7}, "int given, str wanted"),
        ({}, {"turn_sise": 8}, "did you mean 'turn_size'"),
    ],
)
def test_bad_values_are_refused_by_name(environ, given, says):
    with pytest.raises(SettingError, match="(?s).") as caught:
        Settings.load(environ, **given)
    assert says in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_replace_checks_as_load_does():
    settings = Settings.load({})
    assert settings.replace(turn_size=4).turn_size == 4
    with pytest.raises(SettingError):
        settings.replace(turn_size=-1)


def test_a_secret_is_in_no_repr_log_table_or_error(tmp_path, caplog):
    (tmp_path / "key").write_text("hunter2\n")
    settings = Settings.load({"RAY_DURABLE_ENCRYPTION_KEY_FILE": str(tmp_path / "key")}, signing_key="hunter2")
    assert settings.signing_key is not None
    assert settings.signing_key.reveal() == b"hunter2"
    assert settings.encryption_key == Secret("hunter2")
    logging.getLogger("t").warning("%s %r %s", settings, settings, settings.shown())
    with pytest.raises(SettingError) as caught:
        Settings.load({}, signing_key=["hunter2"])
    for text in (repr(settings), f"{settings.signing_key}", str(settings.shown()), caplog.text, str(caught.value)):
        assert "hunter2" not in text
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_misspelt_variables_are_found():
    found = unknown_variables({"RAY_DURABLE_TURNSIZE": "1", "RAY_DURABLE_STORAGE": "x", "HOME": "/"})
    assert found == {"RAY_DURABLE_TURNSIZE": "RAY_DURABLE_TURN_SIZE"}


def test_every_setting_says_what_it_is():
    for row in setting_rows():
        assert row.unit, row.name
        assert row.text.endswith("."), row.name
        assert row.check(row.default, row.name) == row.default


def test_every_setting_is_read_somewhere():
    package = Path(config.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "config.py")
    assert [row.name for row in setting_rows() if f"settings.{row.name}" not in text] == []
