"""Every setting in one place: its type, unit, default, and the environment variable that sets it.

A setting `lease_s` is set by `ray_durable.init(lease_s=…)`, else by `RAY_DURABLE_LEASE_S`, else by its default here.
Settings are read once, by the process that calls `init` (or by a command of the CLI), checked, and handed on as one
frozen value to the controller and the hosts: no two processes of one cluster run by different settings. A secret may
also come from a file, named by its variable with `_FILE` behind it; its value is in no repr, log or table.
"""

from __future__ import annotations

import dataclasses
import difflib
import hmac
import os
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ray_durable.errors import SettingError

__all__ = ["PREFIX", "Secret", "SettingRow", "Settings", "setting_rows"]

PREFIX = "RAY_DURABLE_"
T = TypeVar("T")


class Secret:
    """A key that shows itself only to `reveal()`: `repr`, `str` and formatting give `<secret>`."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def default_storage() -> str:
    """The directory of this user's data folder that holds checkpoints when nothing else is said."""
    import platformdirs

    return platformdirs.user_data_dir("ray_durable", appauthor=False)


def setting(
    default: T,
    *,
    unit: str,
    text: str,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> T:
    """Declare one field of `Settings`. `above`, `at_least` and `below` bound a number."""
    bounds = {"above": above, "at_least": at_least, "below": below}
    metadata = {"unit": unit, "text": text, "bounds": {k: v for k, v in bounds.items() if v is not None}}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `ray_durable` runs by. Build it with `Settings.load`; change one with `settings.replace(turn_size=64)`."""

    # Where things are.
    storage: str = dataclasses.field(
        default_factory=default_storage,
        metadata={
            "unit": "path or URL",
            "text": "Where checkpoints are kept: a directory, `file://`, `s3://`, `gs://`, `az://` or `memory://`.",
            "bounds": {},
        },
    )
    namespace: str = setting("ray_durable", unit="name", text="Ray namespace of the controller and of the hosts.")

    # Hosts.
    turn_size: int = setting(
        128,
        unit="coroutines",
        at_least=1,
        text="Coroutines that a host advances before its event loop serves other calls.",
    )
    commits_in_flight: int = setting(
        4,
        unit="segments",
        at_least=1,
        text="Commits under way at once on a remote store, at most 16; a local one takes one at a time.",
    )

    # Membership.
    heartbeat_s: float = setting(
        0.2, unit="seconds", above=0, text="How often a host tells the controller that it lives."
    )
    silence_s: float = setting(
        1.5, unit="seconds", above=0, text="Silence after which a host is suspected, and no longer given coroutines."
    )
    lease_s: float = setting(
        4.0,
        unit="seconds",
        above=0,
        text="Silence after which a host's log is sealed though its process may still live.",
    )
    poll_s: float = setting(0.3, unit="seconds", above=0, text="How often Ray is asked for its nodes and drains.")
    drain_timeout_s: float = setting(
        30.0, unit="seconds", above=0, text="Time to empty a draining node when the drain names no deadline of its own."
    )
    host_crashes_max: int = setting(
        4,
        unit="processes",
        at_least=0,
        text="Host processes that may end in a row while they run the same step of a coroutine, before it is given up;"
        " 0: it never is.",
    )

    # Store.
    store_timeout_s: float = setting(
        5.0, unit="seconds", above=0, text="Time limit of one request to the object store."
    )
    store_retries: int = setting(
        3, unit="requests", at_least=0, text="Further tries of a request that failed in a passing way."
    )
    retention_s: float = setting(
        604_800.0,
        unit="seconds",
        at_least=0,
        text="How long results and names of finished coroutines can be asked for.",
    )
    signing_key: Secret | None = setting(  # noqa: RUF009
        None,
        unit="secret",
        text="Signs every record; unsigned or forged ones are then refused before they are unpickled.",
    )
    encryption_key: Secret | None = setting(  # noqa: RUF009
        None, unit="secret", text="Encrypts state and chunks (AES-256-GCM; 64 hexadecimal digits or 32 bytes)."
    )

    # Code.
    code_identity: Literal["pinned", "strict"] = setting(
        "pinned",
        unit="policy",
        text="Coroutines whose function has changed go on with their old code (`pinned`) or are refused (`strict`).",
    )

    # Metrics and logs.
    metrics: bool = setting(
        True, unit="switch", text="Count, serve `/metrics`, and hand the figures to Ray's own metrics."
    )
    metrics_host: str = setting(
        "127.0.0.1", unit="address", text="Address that `/metrics` listens on, in every process."
    )
    metrics_port: int = setting(
        0, unit="port", at_least=0, below=65536, text="First port tried by a host's `/metrics`; 0: any free one."
    )
    controller_metrics_port: int = setting(
        0,
        unit="port",
        at_least=0,
        below=65536,
        text="Port of the controller's `/metrics` and `/targets`; 0: any free one.",
    )
    ray_metrics_interval_s: float = setting(
        5.0, unit="seconds", at_least=0, text="How often figures go to Ray's own metrics; 0: never."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", unit="level", text="The least event that hosts and the controller write into Ray's log files."
    )
    log_format: Literal["text", "json"] = setting(
        "text", unit="format", text="One line per event, as `key=value` text or JSON."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """Read the settings: what is `given` and not None, else the environment, else the defaults.

        Raises: SettingError for an unknown name, or a value of the wrong type or out of bounds.
        Example: settings = Settings.load(storage="/data/checkpoints", turn_size=64)
        """
        environ = os.environ if environ is None else environ
        rows = {row.name: row for row in setting_rows()}
        for name in given:
            if name not in rows:
                close = difflib.get_close_matches(name, rows, n=1)
                raise SettingError(
                    name, None, f"no such setting; did you mean {close[0]!r}?" if close else "no such setting"
                )
        values: dict[str, Any] = {}
        for row in rows.values():
            if given.get(row.name) is not None:
                values[row.name] = row.check(given[row.name], source=row.name)
            elif (found := row.find(environ)) is not None:
                source, text = found
                values[row.name] = row.check(row.parse(text, source), source)
        return cls(**values)

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed, checked as `load` checks."""
        return Settings.load({}, **{**{row.name: getattr(self, row.name) for row in setting_rows()}, **changes})

    def shown(self) -> dict[str, str | int | float | bool | None]:
        """Every setting as a plain value that may be printed: a secret is `"<secret>"`, or None when unset."""
        values = {row.name: getattr(self, row.name) for row in setting_rows()}
        return {name: repr(value) if isinstance(value, Secret) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as the documentation and `ray-durable doctor` show it."""

    name: str
    kind: Any
    unit: str
    default: Any
    text: str
    bounds: Mapping[str, float]

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def secret(self) -> bool:
        return Secret in typing.get_args(self.kind)

    def find(self, environ: Mapping[str, str]) -> tuple[str, str] | None:
        """The variable that is set and its text; an empty variable counts as unset, as in most shells' defaults."""
        if text := environ.get(self.variable):
            return self.variable, text
        variable = self.variable + "_FILE"
        if self.secret and (path := environ.get(variable)):
            try:
                return variable, Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingError(variable, path, f"cannot read that file ({error})") from error
        return None

    def parse(self, text: str, source: str) -> Any:
        """The value that a variable's text stands for."""
        if self.secret:
            return Secret(text)
        if self.kind is bool:
            known = {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }
            if text.lower() not in known:
                raise SettingError(source, text, "not a switch; give 1 or 0")
            return known[text.lower()]
        if self.kind in (int, float):
            try:
                return self.kind(text)
            except ValueError:
                raise SettingError(source, text, f"not a number of {self.unit}") from None
        return text

    def check(self, value: Any, source: str) -> Any:
        """`value`, with its type and bounds checked; a str or bytes becomes a `Secret` where one is due."""
        if self.secret:
            return (
                Secret(value)
                if isinstance(value, (str, bytes))
                else self.typed(value, (Secret, types.NoneType), source)
            )
        if typing.get_origin(self.kind) is Literal:
            allowed = typing.get_args(self.kind)
            if value not in allowed:
                raise SettingError(source, value, "give one of " + ", ".join(allowed))
            return value
        if self.kind is str:
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
        elif self.kind is float and type(value) is int:
            value = float(value)
        self.typed(value, self.kind, source)
        if self.kind in (int, float):
            self.check_bounds(value, source)
        return value

    def typed(self, value: Any, kind: type | tuple[type, ...], source: str) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            shown = type(value).__name__ if self.secret else value
            raise SettingError(source, shown, f"{type(value).__name__} given, {self.shown_kind} wanted")
        return value

    def check_bounds(self, value: float, source: str) -> None:
        bounds = self.bounds
        if value != value:
            raise SettingError(source, value, "not a number")
        if "above" in bounds and not value > bounds["above"]:
            raise SettingError(source, value, f"must be more than {bounds['above']} {self.unit}")
        if "at_least" in bounds and not value >= bounds["at_least"]:
            raise SettingError(source, value, f"must be at least {bounds['at_least']} {self.unit}")
        if "below" in bounds and not value < bounds["below"]:
            raise SettingError(source, value, f"must be less than {bounds['below']}")

    @property
    def shown_kind(self) -> str:
        if self.secret:
            return "secret"
        if typing.get_origin(self.kind) is Literal:
            return " | ".join(typing.get_args(self.kind))
        return str(self.kind.__name__)


def setting_rows() -> Iterator[SettingRow]:
    """Every setting, in the order of `Settings`."""
    kinds = typing.get_type_hints(Settings)
    for field in dataclasses.fields(Settings):
        about = field.metadata
        if field.default is not dataclasses.MISSING:
            default = field.default
        else:
            assert field.default_factory is not dataclasses.MISSING, f"setting {field.name} has no default"
            default = field.default_factory()
        yield SettingRow(field.name, kinds[field.name], about["unit"], default, about["text"], about["bounds"])


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that begin as ours do and set nothing (misspelt, most likely), each with the nearest that would."""
    known = {variable for row in setting_rows() for variable in (row.variable, row.variable + "_FILE")}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in unknown}
