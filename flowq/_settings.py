"""Where a setting's value comes from: command line or argument, else the code, else ``FLOWQ_…``, else the default.

What this room does: one table of every setting, with its variable; ``flowq config`` prints value and source from it. What it
will not do: read the environment at import. A value is looked up when an app is entered or a worker starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

import attrs

from flowq._errors import ConfigurationError
from flowq._options import Duration

Source = Literal["argument", "code", "environment", "default"]


@attrs.frozen
class Setting:
    """One row of the table. ``parse`` reads the variable's text, and refuses with ``ValueError``."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    doc: str

    @property
    def variable(self) -> str:
        return f"FLOWQ_{self.name.upper()}"


@attrs.frozen
class Resolved:
    """A setting's value and where it came from."""

    setting: Setting
    value: Any
    source: Source


def _positive(text: str) -> float:
    if (number := _number(text)) > 0:
        return number
    raise ValueError("more than 0")


def _not_negative(text: str) -> float:
    if (number := _number(text)) >= 0:
        return number
    raise ValueError("0 or more")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number > 0:
        return number
    raise ValueError("a whole number, 1 or more")


def _flag(text: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if (value := words.get(text.strip().lower())) is not None:
        return value
    raise ValueError("1 or 0, true or false")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in choices:
            return text
        raise ValueError(f"one of {', '.join(choices)}")

    return parse


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


_TABLE = (
    Setting("url", str, None, "redis://, rediss://, unix://, embedded://[dir] or memory://"),
    Setting("broker", str, None, "kafka://host:9092: jobs without delay or key go by Kafka"),
    Setting("namespace", str, None, "keeps staging and production apart on one server"),
    Setting("backend", _one_of("trio", "asyncio"), "trio", "event loop that `flowq run` starts"),
    Setting("lease_ttl", _positive, 10.0, "seconds until a silent worker's jobs move to others"),
    Setting("enqueue_timeout", _positive, 5.0, "seconds an enqueue waits for the server"),
    Setting("max_payload", _count, 1 << 20, "bytes of one encoded job, and of one result"),
    Setting("concurrency", _count, 32, "bodies that run at once in one worker process"),
    Setting("threads", _count, 16, "threads for plain def tasks in one worker process"),
    Setting("processes", _count, 1, "worker processes of `flowq run`"),
    Setting("only", _names, None, "comma-separated tasks this worker serves; all by default"),
    Setting("exclude", _names, None, "comma-separated tasks this worker does not serve"),
    Setting("burst", _flag, False, "end when nothing is ready, running or due"),
    Setting("burst_wait", _not_negative, 0.0, "seconds ahead in which a due job keeps a burst going"),
    Setting("grace", _not_negative, 20.0, "seconds that running bodies get at shutdown"),
    Setting("cancel_grace", _not_negative, 5.0, "seconds that cancelled bodies get to clean up"),
    Setting("start_timeout", _positive, 30.0, "seconds a worker waits for the server at start"),
    Setting("slice", _not_negative, 0.002, "seconds that bodies run without a checkpoint of ours"),
    Setting(
        "max_loop_stall",
        _positive,
        60.0,
        "seconds a body may block the event loop before the lease is given up",
    ),
    Setting(
        "skew_window",
        _not_negative,
        900.0,
        "seconds for which arguments that do not fit are tried again elsewhere",
    ),
    Setting("connect_timeout", _positive, 5.0, "seconds to connect to the server"),
    Setting("read_timeout", _positive, 10.0, "seconds to wait for a reply of the server"),
    Setting("health_port", int, None, "port of /livez, /readyz and /metrics; none by default"),
    Setting("log_format", _one_of("text", "json"), "text", "format of the CLI's log lines"),
    Setting("log_level", str.upper, "INFO", "level of the CLI's log lines"),
)
SETTINGS: Mapping[str, Setting] = {row.name: row for row in _TABLE}


def resolve(
    name: str, *, argument: Any = None, code: Any = None, environ: Mapping[str, str] | None = None
) -> Resolved:
    """Look one setting up. None means "not said here", on each level; an empty variable too.

    Args:
        argument: said on the command line or at the call.
        code: said in ``App(…)`` or the like.
        environ: in place of ``os.environ``.

    Raises:
        ConfigurationError: the variable's text cannot be understood.
    """
    row = SETTINGS[name]
    if argument is not None:
        return Resolved(row, argument, "argument")
    if code is not None:
        return Resolved(row, code, "code")
    text = (os.environ if environ is None else environ).get(row.variable, "")
    if not text:
        return Resolved(row, row.default, "default")
    try:
        return Resolved(row, row.parse(text), "environment")
    except ValueError as exc:
        shown = "" if name in ("url", "broker") else f"={text!r}"
        raise ConfigurationError(f"{row.variable}{shown}: {exc} ({row.doc})") from None


def _check(row: Setting, value: Any) -> None:
    """What code and command line say follows the same rules as a variable's text."""
    if value is None or isinstance(value, list):
        return
    try:
        row.parse(str(value))
    except ValueError as exc:
        raise ConfigurationError(f"{row.name}={value!r}: {exc} ({row.doc})") from None


class AppOptions(TypedDict, total=False):
    """What ``App(…)`` takes beside name, url and lifespan. Each unset one is looked up in its ``FLOWQ_…`` variable."""

    broker: str | None
    """``kafka://host:9092``: jobs without a delay or key go by Kafka, everything else stays in Redis; none by default."""
    namespace: str | None
    """Keeps, say, staging and production apart on one server."""
    lease_ttl: float | None
    """Seconds until a silent worker's jobs move to others; default 10. All workers of an app use the same one."""
    backend: Literal["trio", "asyncio"] | None
    """Event loop that ``flowq run`` starts; default trio. Say "asyncio" if bodies use asyncio libraries."""
    enqueue_timeout: float | None
    """Seconds an enqueue waits for the server; default 5."""
    skew_window: float | None
    """Seconds for which arguments that do not fit this version of the task are tried again elsewhere, uncounted; default 900."""
    max_payload: int | None
    """Bytes of one encoded job, and of one result; default 1 MiB."""
    imports: Iterable[str]
    """Modules with tasks of this app, imported when it is entered."""
    results: bool
    result_ttl: Duration
    failure_ttl: Duration
    """These three (``APP_DEFAULTS``): defaults for the app's tasks; see ``TaskOptions``."""


APP_DEFAULTS = ("results", "result_ttl", "failure_ttl")


class Configured:
    """What has settings of its own: an app."""

    def __init__(self, code: Mapping[str, Any]) -> None:
        for name, value in code.items():
            _check(SETTINGS[name], value)
        self._code = code
        self._arguments: dict[str, Any] = {}
        self._max_payload: int | None = None

    def override(self, **settings: Any) -> None:
        """Say settings over the code's, as the command line does. None says nothing. In force from the next entry."""
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ConfigurationError(f"unknown setting {name!r}")
            _check(SETTINGS[name], value)
        self._arguments.update({k: v for k, v in settings.items() if v is not None})
        self.look_again()

    def look_again(self) -> None:
        """Have what is kept looked up anew: the app is entered."""
        self._max_payload = None

    def setting(self, name: str) -> Resolved:
        """A setting's value for this app now, and where it comes from: argument, code, environment or default."""
        return resolve(name, argument=self._arguments.get(name), code=self._code.get(name))

    @property
    def lease_ttl(self) -> float:
        """Seconds."""
        return float(self.setting("lease_ttl").value)

    @property
    def max_payload(self) -> int:
        """Bytes of one encoded job, and of one result. Every submit asks, so it is looked up once for each entry of the app."""
        if self._max_payload is None:
            self._max_payload = int(self.setting("max_payload").value)
        return self._max_payload
