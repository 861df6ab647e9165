"""What can be said of a task, and of one submit: options, their defaults, and what they become.

What this room does: check what users wrote, once, and turn it into frozen records. What it will not do: apply them (the
runtime does).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict, TypeGuard

import attrs

from flowq._errors import ConfigurationError, InvalidName

Duration = float | datetime.timedelta
"""Seconds, or a ``timedelta``."""

OnLeaseLoss = Literal["cancel", "continue"]
ExceptionTypes = type[BaseException] | Iterable[type[BaseException]]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@attrs.frozen
class Backoff:
    """How long to wait before the next attempt: half of it fixed, half of it random, by default.

    With the defaults and ``retries=5`` the attempts spread over 6 to 11 minutes, so an outage of a few minutes downstream does
    not fill the dead letters. The random part keeps a crowd of jobs that failed together from coming back together.
    """

    base: float = 2.0
    """Seconds before the first further attempt."""
    factor: float = 4.0
    """By how much each wait is longer than the one before."""
    maximum: float = 3600.0
    """Seconds; no wait is longer."""
    jitter: float = 0.5
    """Share of the wait that is random: 0 none, 1 all of it ("full jitter")."""

    def __attrs_post_init__(self) -> None:
        if self.base < 0 or self.factor < 1 or self.maximum < 0 or not 0 <= self.jitter <= 1:
            raise ConfigurationError(
                f"{self}: base and maximum are seconds >= 0, factor >= 1, jitter between 0 and 1"
            )

    def wait(self, attempt: int, draw: float) -> float:
        """Seconds to wait after attempt number ``attempt`` (1, 2, …) has failed; ``draw`` is a random number in [0, 1)."""
        if self.base == 0:
            return 0.0
        steps = attempt - 1
        full = self.maximum
        if self.factor == 1 or steps * math.log(self.factor) < 700:
            full = min(full, self.base * self.factor**steps)
        return full * (1 - self.jitter * (1 - draw))


class TaskOptions(TypedDict, total=False):
    """What ``@app.task(…)`` takes. Durations are seconds or ``timedelta``."""

    name: str
    """Default: the function's name. ``[A-Za-z0-9_.-]``, at most 100 characters."""
    aliases: Iterable[str]
    """Former names: their waiting jobs are served too."""
    limit: int | None
    """How many may run at once across the whole fleet. None: no limit."""
    timeout: Duration | None
    """For each attempt, without waiting time; default 3600. It counts as an attempt. None: none."""
    retries: int
    """Further attempts after the first; default 5, so up to 6 runs."""
    backoff: Backoff
    retry_on: ExceptionTypes
    """Exceptions that are worth another attempt; default ``Exception``. Looked for inside exception groups too."""
    no_retry_on: ExceptionTypes
    """Exceptions that are not, even if ``retry_on`` covers them."""
    results: bool
    """Keep what the body returned (default True). Failures and cancellations are always recorded."""
    result_ttl: Duration
    """How long a result is kept; default 3600."""
    failure_ttl: Duration
    """How long a waiter can learn of a failure; default 86400. Dead letters are kept longer."""
    max_crashes: int | None
    """How often a job may take its worker down before it becomes a dead letter; default 3. None: for ever."""
    on_lease_loss: OnLeaseLoss
    """What becomes of a running body when its worker loses its lease: default "cancel" with a limit, "continue" without."""


class Options(TypedDict, total=False):
    """What ``task.options(…)`` takes, for one submit. Durations are seconds or ``timedelta``."""

    delay: Duration
    """Start no sooner than this, from now, by the server's clock."""
    at: datetime.datetime | float
    """Start no sooner than this moment: an aware ``datetime`` or Unix seconds."""
    key: str
    """Idempotency key: while a job of this task with this key has not ended, a second submit returns that job."""
    retries: int
    timeout: Duration | None
    result_ttl: Duration
    headers: Mapping[str, str]
    """Handed to the body as ``current_job().headers``."""
    expires: Duration | datetime.datetime
    """Not started any more after this long (or this moment); then it is a dead letter of kind "expired"."""


@attrs.frozen(kw_only=True)
class TaskPolicy:
    """A task's options, complete and checked; all durations in seconds. The policy is the worker's code, not the job's."""

    limit: int | None = None
    timeout: float | None = 3600.0
    retries: int = 5
    backoff: Backoff = Backoff()
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    no_retry_on: tuple[type[BaseException], ...] = ()
    results: bool = True
    result_ttl: float = 3600.0
    failure_ttl: float = 86400.0
    max_crashes: int | None = 3
    on_lease_loss: OnLeaseLoss = "continue"

    @classmethod
    def of(cls, task: str, options: Mapping[str, Any]) -> TaskPolicy:
        """Check the options of one task and fill in the defaults.

        Raises:
            ConfigurationError: names the task, the option and what would be right.
        """
        values = {k: v for k, v in options.items() if k not in ("name", "aliases")}
        unknown = values.keys() - {a.name for a in attrs.fields(cls)}
        if unknown:
            known = ", ".join(TaskOptions.__annotations__)
            raise ConfigurationError(f"task {task!r}: unknown option {min(unknown)!r}; known: {known}")
        for name in ("timeout", "result_ttl", "failure_ttl"):
            if name in values and not (name == "timeout" and values[name] is None):
                values[name] = seconds(values[name], f"task {task!r}: {name}", positive=True)
        for name, least, none in (("limit", 1, True), ("max_crashes", 1, True), ("retries", 0, False)):
            hint = "; to stop a task use app.pause()" if name == "limit" else ""
            if name in values:
                check_count(f"task {task!r}: {name}", values[name], least=least, none=none, hint=hint)
        for name in ("retry_on", "no_retry_on"):
            if name in values:
                values[name] = _exception_types(task, name, values[name])
        if values.get("on_lease_loss", "cancel") not in ("cancel", "continue"):
            raise ConfigurationError(
                f"task {task!r}: on_lease_loss={values['on_lease_loss']!r}: 'cancel' or 'continue'"
            )
        values.setdefault("on_lease_loss", "continue" if values.get("limit") is None else "cancel")
        return cls(**values)


@attrs.frozen(kw_only=True)
class SubmitOptions:
    """The options of one submit, checked; times in ms as they go over the wire, None or empty: not given."""

    delay_ms: int = 0
    at_ms: int = 0
    key: str = ""
    retries: int | None = None
    timeout: int | None = None
    result_ttl: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    expires: int = 0
    """Unix ms."""
    expires_in: int = 0
    """ms from the moment of the submit."""

    def merge(self, task: str, options: Options) -> SubmitOptions:
        """These options with the given ones in their place.

        Raises:
            ConfigurationError: names the task, the option and what would be right.
        """
        return attrs.evolve(self, **_normalised(task, dict(options)))


def _normalised(task: str, options: dict[str, Any]) -> dict[str, Any]:
    what = f"task {task!r}: options("
    out: dict[str, Any] = {}
    for name, value in options.items():
        where = f"{what}{name}=)"
        if name == "delay":
            out["delay_ms"] = milliseconds(value, where)
        elif name == "at":
            out["at_ms"] = _moment(value, where)
        elif name == "timeout":
            out["timeout"] = 0 if value is None else milliseconds(value, where, positive=True)
        elif name == "result_ttl":
            out["result_ttl"] = milliseconds(value, where, positive=True)
        elif name == "expires":
            absolute = isinstance(value, datetime.datetime)
            out["expires"] = _moment(value, where) if absolute else 0
            out["expires_in"] = 0 if absolute else milliseconds(value, where, positive=True)
        elif name == "retries":
            check_count(f"{what.rstrip('(')}: retries", value, least=0, none=False)
            out["retries"] = value
        elif name == "key":
            if not isinstance(value, str) or not 0 < len(value) <= 500:
                raise ConfigurationError(f"{where}: a string of 1 to 500 characters, not {value!r}")
            out["key"] = value
        elif name == "headers":
            pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
            if not all(isinstance(x, str) for pair in pairs for x in pair):
                raise ConfigurationError(f"{where}: names and values are strings")
            out["headers"] = dict(value)
        else:
            raise ConfigurationError(
                f"{what}{name}=): unknown option; known: {', '.join(Options.__annotations__)}"
            )
    if "delay" in options and "at" in options:
        raise ConfigurationError(f"{what}delay=, at=): one of the two")
    return out


def is_name(name: object) -> TypeGuard[str]:
    """Can it stand in a key?"""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_name(name: Any, what: str) -> str:
    """Return ``name`` if it can stand in a key.

    Raises:
        InvalidName: it cannot.
    """
    if not is_name(name):
        raise InvalidName(
            f"{what} {name!r}: letters, digits, '_', '.', '-' only, 1 to 100 characters: it becomes part of a key"
        )
    return name


def seconds(value: Any, what: str, *, positive: bool = False) -> float:
    """A duration as seconds.

    Raises:
        ConfigurationError: negative, not finite, or no duration at all; or 0 where it must be ``positive``.
    """
    number = value.total_seconds() if isinstance(value, datetime.timedelta) else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
        raise ConfigurationError(f"{what}: seconds (a number) or a timedelta, not {value!r}")
    if number < 0 or (positive and number == 0):
        raise ConfigurationError(
            f"{what}: {'more than 0' if positive else '0 or more'} seconds, not {number}"
        )
    return float(number)


def milliseconds(value: Any, what: str, *, positive: bool = False) -> int:
    """A duration as whole ms for the wire, rounded up: never shorter than what was asked for."""
    return math.ceil(round(seconds(value, what, positive=positive) * 1000, 6))


def _moment(value: datetime.datetime | float, what: str) -> int:
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ConfigurationError(
                f"{what}: a datetime needs a time zone, as in datetime.now(timezone.utc); {value!r} has none"
            )
        return math.ceil(value.timestamp() * 1000)
    return milliseconds(value, what, positive=True)


def check_count(what: str, value: Any, *, least: int, none: bool, hint: str = "") -> None:
    """Refuse what is no whole number of ``least`` or more (or, with ``none``, None).

    Raises:
        ConfigurationError: it is not.
    """
    if value is None and none:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(
            f"{what}={value!r}: a whole number, {least} or more{', or None' if none else ''}{hint}"
        )


def _exception_types(task: str, name: str, value: Any) -> tuple[type[BaseException], ...]:
    types: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else (value,)
    for item in types:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ConfigurationError(f"task {task!r}: {name}={value!r}: exception types, not {item!r}")
    return types
