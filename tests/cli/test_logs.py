"""Log lines of the command line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowq._context import RunningJob, current
from flowq.cli import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What was logged, after ``configure`` was given it; pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_json_has_event_facts_and_exception(lines: io.StringIO) -> None:
    """One object a line: the event's name, its facts as fields of their own, the traceback."""
    logs.configure("json", "INFO", stream=lines)
    try:
        raise ValueError("no\nway")
    except ValueError as error:
        logging.getLogger("flowq.worker").error(
            "it %s",
            "failed",
            exc_info=error,
            extra={"event": "job.dead", "facts": {"job": "a:1-1", "kind": "error"}},
        )

    line = json.loads(lines.getvalue())

    assert (line["event"], line["job"], line["kind"], line["message"]) == (
        "job.dead",
        "a:1-1",
        "error",
        "it failed",
    )
    assert (line["level"], line["logger"]) == ("ERROR", "flowq.worker")
    assert line["time"].endswith("+00:00")
    assert "ValueError: no" in line["exception"]
    assert lines.getvalue().count("\n") == 1


def test_a_bodys_own_lines_carry_its_job(lines: io.StringIO) -> None:
    """What user code logs inside a body names job and task, without that code doing anything for it."""
    logs.configure("json", "INFO", stream=lines)
    token = current.set(RunningJob(id="resize:1-1", task="resize"))
    try:
        logging.getLogger("shop").info("hello")
    finally:
        current.reset(token)
    logging.getLogger("shop").info("outside")

    inside, outside = (json.loads(line) for line in lines.getvalue().splitlines())

    assert (inside["job"], inside["task"]) == ("resize:1-1", "resize")
    assert "job" not in outside


def test_text_is_one_line_for_people(lines: io.StringIO) -> None:
    """Level, logger, message and the documented fields; further facts are left to JSON."""
    logs.configure("text", "INFO", stream=lines)
    logging.getLogger("flowq.lease").warning(
        "at risk", extra={"event": "lease.at_risk", "facts": {"seconds": 1.5}}
    )
    logging.getLogger("flowq.lease").debug("not asked for")

    (line,) = lines.getvalue().splitlines()

    assert "WARNING flowq.lease" in line
    assert line.endswith("at risk  [event=lease.at_risk]")


def test_what_json_does_not_know_is_written_as_text(lines: io.StringIO) -> None:
    """A field of any type keeps a line from failing."""
    logs.configure("json", "INFO", stream=lines)

    logging.getLogger("flowq.x").info("x", extra={"facts": {"thing": {1, 2}, "path": logging}})

    assert json.loads(lines.getvalue())["thing"] == "{1, 2}"
