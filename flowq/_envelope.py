"""The wire: how a job lies in bytes. Format version 1, described in docs/wire.md; only this file and ``_codec`` know it.

A job is one JSON object::

    {"v":1,"task":"resize","args":["a.png",80]}

    v            format version; a newer one is handed back with a delay, never buried
    task         the task's name
    args         arguments by position          kwargs       keyword-only ones, ``**kwargs``, or any by name
    key          idempotency key                headers      str -> str, for trace context and the like
    expires      Unix ms after which it is not started
    retries, timeout (ms, 0: none), result_ttl (ms)          this job's own, in place of the task's
    id, attempt, enqueued_at (Unix ms)                       only once it was delayed or retried: else its entry id tells
    priority, parent, group, limit_keys                      reserved: kept, not looked at
    enc          reserved for encrypted arguments: not understood by this version

Fields that this version does not know survive a retry untouched: ``reencode`` works on the raw object, never on a Struct.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from flowq._convert import MAX_DEPTH, depth_exceeded, encode
from flowq._errors import FlowqError, InvalidArguments, PayloadTooLarge

FORMAT = 1
MAX_PAYLOAD = 1 << 20
"""Bytes of one encoded job, and of one result: the default limit."""


class Call(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """A decoded job: ``fn(*call.args, **call.kwargs)``, and what the envelope says beside it. Times are ms, as on the wire."""

    v: int = FORMAT
    args: Any = ()
    """A tuple, in the types of the task's annotations."""
    kwargs: Any = {}
    """A dict, nearly always empty."""
    id: str = ""
    """Empty for a job that was neither delayed nor retried: see ``job_id``."""
    attempt: int = 1
    enqueued_at: int = 0
    key: str = ""
    expires: int = 0
    headers: dict[str, str] | None = None
    retries: int | None = None
    timeout: int | None = None
    result_ttl: int | None = None
    enc: Any = None


class Envelope(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is written. The order is the order on the wire."""

    v: int
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = {}
    key: str = ""
    expires: int = 0
    headers: dict[str, str] = {}
    retries: int | None = None
    timeout: int | None = None
    result_ttl: int | None = None


class CodecError(FlowqError):
    """An entry that cannot be run as it is. ``call`` holds what could be read of its envelope: id, attempt, key."""

    def __init__(self, message: str, call: Call) -> None:
        super().__init__(message)
        self.call = call


class Undecodable(CodecError):
    """Not a job at all: a dead letter, with this message as its reason."""


class NewerFormat(CodecError):
    """Written in a format that this version does not know: hand it back with a delay for a worker that does."""


class Skew(CodecError):
    """A job whose arguments do not fit this version of the task. Another worker, or this one's next version, may take it."""


_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def job_id(lane: str, entry: str, call: Call) -> str:
    """The public id of the job in this stream entry."""
    return call.id or f"{lane}:{entry}"


def encode_call(envelope: Envelope, *, limit: int = MAX_PAYLOAD, names: Sequence[str] = ()) -> bytes:
    """Write a job without looking at any signature (submitting by name).

    Args:
        envelope: what is written.
        limit: bytes.
        names: of the arguments by position, for messages.

    Raises:
        InvalidArguments: JSON cannot hold an argument, or it nests too deeply. PayloadTooLarge: over ``limit`` bytes.
    """
    try:
        raw = encode(envelope)
    except Exception as exc:  # noqa: BLE001 - a model's own serialiser may raise anything
        raise InvalidArguments(f"task {envelope.task!r}{_culprit(envelope, names)}: {why(exc)}") from None
    if len(raw) > limit:
        raise PayloadTooLarge(
            f"task {envelope.task!r}: the encoded job has {len(raw)} bytes, the limit is {limit}: store the data elsewhere and "
            f"pass a reference, or raise App(max_payload=…)"
        )
    if depth_exceeded(raw):
        raise InvalidArguments(f"task {envelope.task!r}: the arguments nest deeper than {MAX_DEPTH} levels")
    return raw


def reencode(raw: bytes, *, job_id: str, attempt: int, enqueued_at: int | None = None) -> bytes:
    """The same job for its next attempt. Every other field is copied byte for byte, known or not.

    Args:
        enqueued_at: Unix ms of the first submit; kept as it is if the envelope has it already.

    Raises:
        Undecodable: ``raw`` is no JSON object.
    """
    try:
        fields: dict[str, Any] = _read_fields(raw)
    except Exception as exc:  # DecodeError, UnicodeDecodeError, RecursionError
        raise Undecodable(f"not a job: {why(exc)}", Call()) from exc
    fields["id"] = job_id
    fields["attempt"] = attempt
    if enqueued_at is not None:
        fields.setdefault("enqueued_at", enqueued_at)
    return msgspec.json.encode(fields)


OF_ONE_LIFE = ("id", "attempt", "enqueued_at", "expires")
"""Fields that a job does not hand on when it is submitted anew: the new one has an id and all attempts of its own, and is wanted."""


def afresh(raw: bytes) -> tuple[bytes, str]:
    """The job as if it had never been tried, and its idempotency key. Every other field stays byte for byte.

    What is no JSON object is given back as it is: a newer worker may be able to read it.
    """
    try:
        fields = _read_fields(raw)
        key = msgspec.json.decode(fields["key"], type=str) if "key" in fields else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw, ""
    for name in OF_ONE_LIFE:
        fields.pop(name, None)
    return msgspec.json.encode(fields), key


def why(exc: Exception) -> str:
    return "it nests too deeply" if isinstance(exc, RecursionError) else str(exc) or type(exc).__name__


def _culprit(envelope: Envelope, names: Sequence[str]) -> str:
    numbered = ((names[i] if i < len(names) else f"{i + 1}", value) for i, value in enumerate(envelope.args))
    for name, value in (*numbered, *envelope.kwargs.items()):
        try:
            encode(value)
        except Exception:  # noqa: BLE001 - this is the one; its message is at hand already
            return f", argument {name}" if name.isdigit() else f", parameter {name!r}"
    return ""
