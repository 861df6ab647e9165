"""A task's way to bytes and back: its calls by its signature, its results by its return annotation.

What this room does: the prebuilt decoder of the hot path, and the slow way that explains a refusal; outcomes as records. With
``_envelope`` (the fields of a job) it is the only place that knows the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

import msgspec

from flowq._convert import MAX_DEPTH, decoder, depth_exceeded, encode
from flowq._envelope import (
    FORMAT,
    MAX_PAYLOAD,
    Call,
    CodecError,
    Envelope,
    NewerFormat,
    Skew,
    Undecodable,
    encode_call,
    job_id,
    reencode,
    why,
)
from flowq._errors import FlowqError, InvalidArguments, PayloadTooLarge
from flowq._model import Record
from flowq._signature import Misfit, Signature

__all__ = [
    "FORMAT",
    "MAX_PAYLOAD",
    "BadResult",
    "Call",
    "CodecError",
    "Envelope",
    "NewerFormat",
    "Skew",
    "TaskCodec",
    "Undecodable",
    "decode_record",
    "encode_call",
    "encode_record",
    "job_id",
    "reencode",
]


class BadResult(FlowqError):
    """A body returned something that cannot be stored. The body has run: trying again would not mend it."""


class _Loose(Call, gc=False, eq=False, kw_only=True):
    args: list[msgspec.Raw] = []  # noqa: RUF012 - a Struct copies it
    kwargs: dict[str, msgspec.Raw] = {}  # noqa: RUF012 - a Struct copies it


class _Meta(msgspec.Struct):
    v: int


_read_meta = msgspec.json.Decoder(_Meta).decode
_read_loose = msgspec.json.Decoder(_Loose).decode
_read_record = msgspec.json.Decoder(Record).decode
_NO_KWARGS = Annotated[dict[str, Any], msgspec.Meta(max_length=0)]
_SUCCEEDED = b'{"status":"succeeded","value":'
_NOTHING = _SUCCEEDED + b"null}"


def encode_record(record: Record) -> bytes:
    """Write an outcome. Text that UTF-8 cannot hold (a surrogate from a file name) is written with backslashes."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        texts = {f: getattr(record, f) for f in ("kind", "type", "message", "traceback", "reason")}
        clean = {f: t.encode(errors="backslashreplace").decode() for f, t in texts.items()}
        return msgspec.json.encode(msgspec.structs.replace(record, **clean))


def decode_record(raw: bytes) -> Record:
    """Read an outcome; its ``value`` stays raw until somebody knows the type.

    Raises:
        msgspec.DecodeError: it is not one.
    """
    return _read_record(raw)


class TaskCodec:
    """One task's way to bytes and back, prebuilt at registration.

    ``decode`` is the hot path: one call of one msgspec decoder yields the arguments in their annotated types. Whatever it
    refuses goes the slow way once more, which finds out why, or takes arguments that were given by name.
    """

    __slots__ = ("_names", "_read_value", "decode", "signature")

    decode: Callable[[bytes], Call]
    """Read a job. Raises ``Undecodable``, ``NewerFormat`` or ``Skew``."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._names = [p.name for p in signature.positional]
        self.decode = _build_decode(signature)
        self._read_value = decoder(signature.returns)

    def encode(self, envelope: Envelope, kwargs: Mapping[str, Any], *, limit: int = MAX_PAYLOAD) -> bytes:
        """Check and write a call: ``envelope.args`` as given, with ``kwargs``; the envelope becomes canonical.

        The bytes are read once as a worker would, so that what is stored is known to be runnable by this very code.

        Raises:
            InvalidArguments: names the task and the parameter. PayloadTooLarge: over ``limit`` bytes.
        """
        envelope.args, envelope.kwargs = self.signature.canonical(envelope.args, kwargs)
        raw = encode_call(envelope, limit=limit, names=self._names)
        try:
            self.decode(raw)
        except CodecError as exc:
            raise InvalidArguments(f"{exc} (read back from JSON)") from None
        return raw

    def encode_result(self, value: Any, *, limit: int = MAX_PAYLOAD) -> bytes:
        """The whole record of a success, for ``r:<id>``.

        Raises:
            BadResult: JSON cannot hold the value. PayloadTooLarge: over ``limit`` bytes.
        """
        if value is None:
            return _NOTHING
        try:
            raw = encode(value)
        except Exception as exc:  # noqa: BLE001 - a model's own serialiser may raise anything
            raise BadResult(
                f"task {self.signature.task!r} returned a value of type {type(value).__qualname__} that cannot be stored: {why(exc)}. Return "
                f"something JSON can hold, or set results=False"
            ) from None
        if raw == b"null" and isinstance(value, float):
            raise BadResult(
                f"task {self.signature.task!r} returned {value}, which has no form in JSON: return None or a text for it, or set "
                f"results=False"
            )
        if len(raw) > limit:
            raise PayloadTooLarge(
                f"task {self.signature.task!r} returned {len(raw)} bytes, the limit is {limit}: store the data elsewhere and "
                f"return a reference, or set results=False"
            )
        if depth_exceeded(raw):
            raise BadResult(
                f"task {self.signature.task!r} returned a value that nests deeper than {MAX_DEPTH} levels"
            )
        return _SUCCEEDED + raw + b"}"

    def decode_result(self, value: msgspec.Raw) -> Any:
        """A stored value in the type of the return annotation.

        Raises:
            msgspec.ValidationError, ValueError: it does not fit that annotation.
        """
        return self._read_value(value)


def _build_decode(signature: Signature) -> Callable[[bytes], Call]:
    def slow(raw: bytes) -> Call:
        return _read_slowly(signature, raw)

    if signature.others is not None or (signature.rest is not None and signature.positional):
        return slow
    args, kwargs = _args_type(signature), _kwargs_type(signature)
    fields: list[Any] = [("v", Literal[1]), ("enc", None, None)]
    fields.append(
        ("args", args, msgspec.field(default_factory=args)) if not signature.least else ("args", args)
    )
    if not signature.needs_keywords:
        fields.append(
            ("kwargs", kwargs, msgspec.field(default_factory=kwargs if signature.keywords else dict))
        )
    else:
        fields.append(("kwargs", kwargs))
    cls = msgspec.defstruct("Call", fields, bases=(Call,), gc=False, eq=False, kw_only=True)
    fast: Callable[[bytes], Call] = decoder(cls)
    trim = any(not p.required for p in signature.positional)
    if not trim and not signature.keywords:

        def decode(raw: bytes) -> Call:
            try:
                return fast(raw)
            except Exception:  # noqa: BLE001 - the slow way finds out what it was
                return slow(raw)
    else:

        def decode(raw: bytes) -> Call:
            try:
                call = fast(raw)
            except Exception:  # noqa: BLE001 - the slow way finds out what it was
                return slow(raw)
            if trim:
                call.args = _given(call.args)
            if call.kwargs:
                call.kwargs = {
                    k: v for k, v in msgspec.structs.asdict(call.kwargs).items() if v is not msgspec.UNSET
                }
            return call

    return decode


def _args_type(signature: Signature) -> Any:
    """A tuple of exactly these types; with defaults, a Struct that is written as an array and may be shorter."""
    if signature.rest is not None:
        rest: Any = signature.rest.annotation
        return tuple[rest, ...]
    if all(p.required for p in signature.positional):
        return tuple[tuple(p.annotation for p in signature.positional)]  # type: ignore[misc]  # a type made at run time
    fields = [
        (f"a{i}", p.annotation) if p.required else (f"a{i}", p.annotation, msgspec.UNSET)
        for i, p in enumerate(signature.positional)
    ]
    return msgspec.defstruct("Args", fields, array_like=True, forbid_unknown_fields=True, gc=False)


def _kwargs_type(signature: Signature) -> Any:
    if not signature.keywords:
        return _NO_KWARGS
    fields: list[Any] = [
        (p.name, p.annotation) if p.required else (p.name, p.annotation, msgspec.UNSET)
        for p in signature.keywords.values()
    ]
    return msgspec.defstruct("Kwargs", fields, kw_only=True, forbid_unknown_fields=True, gc=False)


def _given(args: Any) -> tuple[Any, ...]:
    values: tuple[Any, ...] = msgspec.structs.astuple(args)
    n = len(values)
    while n and values[n - 1] is msgspec.UNSET:
        n -= 1
    return values[:n]


def _read_slowly(signature: Signature, raw: bytes) -> Call:
    """By name and one by one; or the reason why not."""
    try:
        version = _read_meta(raw).v
    except Exception as exc:  # DecodeError, UnicodeDecodeError, RecursionError
        raise Undecodable(f"not a job of flowq: {why(exc)}", Call()) from exc
    try:
        call = cast("Call", _read_loose(raw))
    except Exception as exc:  # DecodeError, UnicodeDecodeError, RecursionError
        if version > FORMAT:
            raise NewerFormat(_newer(version), Call(v=version)) from exc
        raise Undecodable(f"not a job of format {FORMAT}: {why(exc)}", Call()) from exc
    args, kwargs = call.args, call.kwargs
    call.args, call.kwargs = (), {}
    if version > FORMAT:
        raise NewerFormat(_newer(version), call)
    if version < FORMAT:
        raise Undecodable(f"format version {version} has never existed", call)
    if call.enc is not None:
        raise NewerFormat(
            f"its arguments are encrypted ({call.enc!r}), which this version of flowq does not read", call
        )
    try:
        call.args, call.kwargs = signature.read(args, kwargs)
    except Misfit as exc:
        if (
            isinstance(cause := exc.__cause__, msgspec.DecodeError | UnicodeDecodeError | RecursionError)
            and not isinstance(cause, msgspec.ValidationError)
        ):  # the bytes are at fault, not the values: text in UTF-8 that is none, which msgspec looks at only where it is used
            raise Undecodable(f"task {signature.task!r}: {why(cause)}", call) from exc
        raise Skew(f"task {signature.task!r}: {exc}", call) from exc
    return call


def _newer(version: int) -> str:
    return f"format version {version}, this worker reads {FORMAT}: upgrade it, or wait for a newer one to take the job"
