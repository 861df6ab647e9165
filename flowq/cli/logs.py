"""Log lines of the command line, as text or JSON. The library itself never configures logging; only this does.

Records carry ``event`` (its name is documented and stable), ``job``, ``task`` and ``worker`` where they have one. Lines of the user's
own loggers inside a body get job and task too.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import IO, Any, Final, Literal

from flowq._context import current

Format = Literal["text", "json"]

FIRST: Final = ("event", "worker", "task", "job")
"""Fields in front; every other field of a record follows."""
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(style: Format, level: str, *, stream: IO[str] | None = None) -> None:
    """Send everything from ``level`` up to ``stream`` (standard error), one line a record.

    Args:
        style: ``text`` for people, ``json`` for machines (one object a line).
        level: a name of ``logging``; other libraries stay at WARNING unless it is DEBUG.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_add_job)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("asyncio", "concurrent"):
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)
    logging.captureWarnings(capture=True)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries beside its text: the documented ones first."""
    extra = {
        k: v for k, v in vars(record).items() if k not in _OWN and v is not None and not k.startswith("_")
    }
    facts = extra.pop("facts", None)
    if isinstance(facts, dict):
        extra = {**facts, **extra}
    first = {k: extra.pop(k) for k in FIRST if k in extra}
    return first | extra


def _add_job(record: logging.LogRecord) -> bool:
    job = current.get(None)
    if job is not None:
        for name, value in (("job", job.id), ("task", job.task)):
            if not hasattr(record, name):
                setattr(record, name, value)
    return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the record's fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """``12:00:00.123 INFO    flowq.worker[pid]: message  [event=… worker=… task=… job=…]``, and the traceback below.

    Further fields are left to JSON: the message says what people need of them.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC).astimezone()
        fields = " ".join(f"{k}={_short(v)}" for k, v in fields_of(record).items() if k in FIRST)
        line = (
            f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} {record.levelname:<7} {record.name}[{record.process}]: "
            f"{record.getMessage()}{f'  [{fields}]' if fields else ''}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _short(value: Any) -> str:
    text = str(value)
    if "\n" in text or " " in text:
        text = json.dumps(text, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
