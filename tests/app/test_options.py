"""What users say of tasks and submits, and what becomes of it."""

from __future__ import annotations

import datetime
from datetime import timedelta
from typing import Any

import pytest

import flowq
from flowq._options import Options, SubmitOptions, TaskPolicy

NONE = SubmitOptions()


def merged(**options: Any) -> SubmitOptions:
    return NONE.merge("t", Options(**options))  # type: ignore[typeddict-item]  # wrong values are what some tests are about


def test_defaults_are_those_of_the_documentation() -> None:
    """Nothing said: an hour, five further attempts over some minutes, results for an hour, failures for a day."""
    policy = TaskPolicy.of("t", {})

    assert (policy.limit, policy.timeout, policy.retries, policy.max_crashes) == (None, 3600, 5, 3)
    assert (policy.results, policy.result_ttl, policy.failure_ttl) == (True, 3600, 86400)
    assert policy.backoff == flowq.Backoff(base=2.0, factor=4.0, maximum=3600.0, jitter=0.5)
    assert (policy.retry_on, policy.no_retry_on) == ((Exception,), ())


def test_backoff_spreads_the_default_attempts_over_minutes() -> None:
    """Half of each wait is fixed, half random: the five waits sum up to between 5.7 and 11.4 minutes."""
    backoff = flowq.Backoff()

    shortest, longest = (sum(backoff.wait(n, draw) for n in range(1, 6)) for draw in (0.0, 1.0))

    assert (shortest, longest) == (341.0, 682.0)


@pytest.mark.parametrize("attempt", [9, 700, 10**9])
def test_backoff_never_exceeds_its_maximum(attempt: int) -> None:
    """However many attempts there were, and without an overflow."""
    assert flowq.Backoff().wait(attempt, 1.0) == 3600
    assert flowq.Backoff(factor=1.0).wait(attempt, 1.0) == 2.0
    assert flowq.Backoff(base=0).wait(attempt, 1.0) == 0


def test_a_limit_decides_what_a_lost_lease_does() -> None:
    """With a limit the body is cancelled: another worker may hold its token. Without one it may go on."""
    assert TaskPolicy.of("t", {}).on_lease_loss == "continue"
    assert TaskPolicy.of("t", {"limit": 3}).on_lease_loss == "cancel"
    assert TaskPolicy.of("t", {"limit": 3, "on_lease_loss": "continue"}).on_lease_loss == "continue"


def test_durations_may_be_timedeltas() -> None:
    """Everywhere."""
    policy = TaskPolicy.of("t", {"timeout": timedelta(minutes=1), "result_ttl": timedelta(hours=2)})

    assert (policy.timeout, policy.result_ttl) == (60.0, 7200.0)
    assert merged(delay=timedelta(seconds=1.5)).delay_ms == 1500


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "limit=0: a whole number, 1 or more, or None; to stop a task use app.pause()"),
        ({"limit": True}, "limit=True"),
        ({"limit": 2.5}, "limit=2.5"),
        ({"timeout": 0}, "timeout: more than 0 seconds, not 0"),
        ({"timeout": "30"}, "timeout: seconds (a number) or a timedelta, not '30'"),
        ({"timeout": float("nan")}, "timeout"),
        ({"result_ttl": None}, "result_ttl"),
        ({"retries": -1}, "retries=-1: a whole number, 0 or more"),
        ({"retries": None}, "retries=None"),
        ({"max_crashes": 0}, "max_crashes=0"),
        ({"retry_on": ValueError()}, "exception types, not ValueError()"),
        ({"retry_on": [ValueError, "x"]}, "exception types, not 'x'"),
        ({"on_lease_loss": "ignore"}, "'cancel' or 'continue'"),
        ({"retrys": 1}, "unknown option 'retrys'"),
    ],
)
def test_wrong_task_options_name_the_task_and_the_option(options: dict[str, Any], says: str) -> None:
    """At registration, with what would be right."""
    with pytest.raises(flowq.ConfigurationError) as caught:
        TaskPolicy.of("t", options)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": -1}, "options(delay=): 0 or more seconds, not -1"),
        ({"delay": 1, "at": 2.0}, "one of the two"),
        ({"at": datetime.datetime(2030, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - the point
        ({"key": ""}, "a string of 1 to 500 characters"),
        ({"key": 5}, "not 5"),
        ({"headers": {"a": 1}}, "names and values are strings"),
        ({"headers": ["a"]}, "names and values are strings"),
        ({"expires": 0}, "more than 0"),
        ({"retries": -1}, "options: retries=-1: a whole number"),
        ({"dealy": 1}, "options(dealy=): unknown option; known: delay, at, key"),
    ],
)
def test_wrong_submit_options_name_the_option(options: dict[str, Any], says: str) -> None:
    """Where options() is called, with what would be right."""
    with pytest.raises(flowq.ConfigurationError) as caught:
        merged(**options)

    assert says in str(caught.value)
    assert "'t'" in str(caught.value)


def test_times_go_over_the_wire_in_whole_ms() -> None:
    """Rounded up, so that nothing is shorter than asked for, and without the noise of floats."""
    moment = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

    options = merged(delay=0.0001, timeout=0.3, result_ttl=1.1, retries=0, expires=moment)

    assert (options.delay_ms, options.timeout, options.result_ttl, options.retries) == (1, 300, 1100, 0)
    assert options.expires == moment.timestamp() * 1000
    assert merged(at=1.5).at_ms == 1500
    assert merged(timeout=None).timeout == 0


def test_options_add_up() -> None:
    """options() of what options() returned keeps what was said before, and the last word holds."""
    once = merged(delay=1, key="a")

    assert once.merge("t", {"key": "b"}) == merged(delay=1, key="b")
