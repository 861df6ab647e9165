"""Python values to JSON and back, by annotation.

What this room does: one encoder, one way to make decoders, and the answer to "can this annotation be read back from JSON?".
What it will not do: know what a job is. msgspec serves builtins, ``datetime``, ``UUID``, ``Decimal``, ``Enum``, ``set``,
``bytes``, dataclasses, attrs classes, ``TypedDict``, ``NamedTuple`` and its own Structs; pydantic models are served when their
classes turn up (nothing is imported for that).
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

MAX_DEPTH = 100
"""How deep arrays and objects of a job may nest: far above real data, and far below what breaks a decoder's stack."""

NATIVE = (
    bytes,
    bytearray,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    decimal.Decimal,
)
_KEYS_THAT_NO_OBJECT_HAS = (
    types.ListType,
    types.TupleType,
    types.VarTupleType,
    types.SetType,
    types.FrozenSetType,
    types.DictType,
    types.StructType,
    types.DataclassType,
    types.TypedDictType,
    types.NamedTupleType,
)
_FLAT = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(i for i in range(256) if i not in b"[]{}")


def _is_pydantic(cls: Any) -> bool:
    return hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_validate_json")


def _enc_hook(value: Any) -> Any:
    if _is_pydantic(type(value)):
        return msgspec.Raw(value.model_dump_json(by_alias=True).encode())
    for base in (str, int, float):
        if isinstance(value, base):
            return base.__new__(base, value)  # type: ignore[type-var]  # the loop hides which of the three it is
    if isinstance(value, tuple | frozenset):  # natively encoded anywhere but as a key
        raise TypeError(f"a {type(value).__name__} cannot be a key of a JSON object: use a list of pairs")
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"a value of type {name} cannot be written as JSON")


def _dec_hook(cls: Any, value: Any) -> Any:
    if _is_pydantic(cls):
        return cls.model_validate_json(encode(value))
    return value


encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_enc_hook).encode


def decoder(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """The bound ``decode`` of a prebuilt decoder for one annotation."""
    return msgspec.json.Decoder(annotation, dec_hook=_dec_hook).decode


def conform(value: Any, annotation: Any) -> None:
    """Check one value against one annotation, strictly (no ``"5"`` for an int, no bytes for a str).

    Raises:
        msgspec.ValidationError: it does not fit; the message names the path inside the value.
    """
    if annotation is not Any:
        msgspec.convert(value, annotation, builtin_types=NATIVE, str_keys=True, dec_hook=_dec_hook)


def depth_exceeded(raw: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether this JSON nests deeper than ``limit``. Cheap for what is surely flat: two counts."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return False
    outside_strings = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside_strings.translate(_FLAT, _NOT_BRACKETS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def why_unservable(annotation: Any) -> str | None:
    """Why values of this annotation cannot be read back from JSON; None: they can."""
    try:
        info = types.type_info(annotation)
        msgspec.json.Decoder(annotation)
    except (TypeError, NameError, AttributeError) as exc:
        return str(exc)
    return next(_complaints(info, set()), None)


def _complaints(info: types.Type, seen: set[int]) -> Iterator[str]:
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, types.CustomType):
        if info.cls is not object and not _is_pydantic(info.cls):
            yield f"{info.cls.__module__}.{info.cls.__qualname__} has no form in JSON"
    elif isinstance(info, types.DictType):
        if isinstance(info.key_type, _KEYS_THAT_NO_OBJECT_HAS):
            yield "the keys of a JSON object are strings: use a list of pairs"
        yield from _complaints(info.key_type, seen)
        yield from _complaints(info.value_type, seen)
    elif isinstance(info, types.UnionType | types.TupleType):
        for item in info.types if isinstance(info, types.UnionType) else info.item_types:
            yield from _complaints(item, seen)
    elif isinstance(info, types.ListType | types.SetType | types.FrozenSetType | types.VarTupleType):
        yield from _complaints(info.item_type, seen)
    elif isinstance(
        info, types.StructType | types.DataclassType | types.TypedDictType | types.NamedTupleType
    ):
        for field in info.fields:
            for complaint in _complaints(field.type, seen):
                yield f"field {field.name!r} of {info.cls.__qualname__}: {complaint}"
