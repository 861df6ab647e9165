"""What goes over the wire comes back: arguments in the types of their annotations, envelopes through retries, outcomes as records."""

from __future__ import annotations

import datetime
import enum
import json
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flowq._codec import (
    FORMAT,
    Call,
    CodecError,
    Envelope,
    TaskCodec,
    decode_record,
    encode_call,
    encode_record,
    reencode,
)
from flowq._convert import depth_exceeded, encode
from flowq._errors import FlowqError, InvalidArguments
from flowq._model import Record
from flowq._signature import Signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    id: uuid.UUID
    price: Decimal
    tags: set[str] = field(default_factory=set)


@attrs.define
class Box:
    items: list[Item]
    packed: datetime.datetime | None


class Point(TypedDict):
    x: int
    y: int


class Pair(NamedTuple):
    left: int
    right: str


UTC = datetime.UTC
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
whole = st.integers(-(2**63), 2**64 - 1)
real = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | whole | real | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)
items = st.builds(
    Item, st.uuids(), st.decimals(allow_nan=False, allow_infinity=False, places=4), st.sets(text, max_size=3)
)
typed: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, whole),
    (float, real),
    (bool, st.booleans()),
    (str, text),
    (bytes, st.binary(max_size=30)),
    (uuid.UUID, st.uuids()),
    (datetime.datetime, moments),
    (datetime.date, st.dates()),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(days=-9999), datetime.timedelta(days=9999))),
    (Colour, st.sampled_from(Colour)),
    (int | None, st.none() | whole),
    (list[int], st.lists(whole, max_size=4)),
    (set[str], st.sets(text, max_size=4)),
    (frozenset[int], st.frozensets(whole, max_size=4)),
    (tuple[int, str], st.tuples(whole, text)),
    (dict[str, int], st.dictionaries(text, whole, max_size=4)),
    (dict[uuid.UUID, bytes], st.dictionaries(st.uuids(), st.binary(max_size=5), max_size=3)),
    (Item, items),
    (Box, st.builds(Box, st.lists(items, max_size=3), st.none() | moments)),
    (Point, st.fixed_dictionaries({"x": whole, "y": whole})),
    (Pair, st.builds(Pair, whole, text)),
    (Any, json_values),
]


@st.composite
def functions(draw: st.DrawFn) -> tuple[TaskCodec, tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """A function with some parameters of every kind, and a call that fits: args, kwargs, and what each parameter then is."""
    n_positional, n_keyword = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    kinds = [draw(st.sampled_from(typed)) for _ in range(n_positional + n_keyword)]
    optional_from = draw(st.integers(0, n_positional))
    defaults = [
        draw(kinds[i][1]) if i >= optional_from and (i < n_positional or draw(st.booleans())) else None
        for i in range(len(kinds))
    ]
    has_default = [
        i >= optional_from and (i < n_positional or defaults[i] is not None) for i in range(len(kinds))
    ]
    extra, others = draw(st.booleans()), draw(st.booleans())
    namespace: dict[str, Any] = {"__name__": __name__}
    parts = []
    for i, (annotation, _) in enumerate(kinds):
        namespace[f"T{i}"], namespace[f"D{i}"] = annotation, defaults[i]
        if i == n_positional and not extra:
            parts.append("*")
        parts.append(f"p{i}: T{i}" + (f" = D{i}" if has_default[i] else ""))
    if extra:
        parts.insert(n_positional, "*rest: int")
    if others:
        parts.append("**others: int")
    exec(f"async def f({', '.join(parts)}): ...", namespace)
    codec = TaskCodec(Signature.of(namespace["f"], "f"))

    values = [draw(strategy) for _, strategy in kinds]
    by_position = draw(st.integers(0, n_positional))
    args = tuple(values[:by_position])
    kwargs: dict[str, Any] = {}
    means = {f"p{i}": v for i, v in enumerate(args)}
    for i in range(by_position, len(kinds)):
        if not has_default[i] or draw(st.booleans()):
            kwargs[f"p{i}"] = means[f"p{i}"] = values[i]
        else:
            means[f"p{i}"] = defaults[i]
    if extra and by_position == n_positional:
        means["rest"] = tuple(draw(st.lists(whole, max_size=3)))
        args += means["rest"]
    if others:
        means["others"] = draw(st.dictionaries(st.sampled_from(["o1", "o2", "task"]), whole, max_size=2))
        kwargs |= means["others"]
    return codec, args, kwargs, means


def meaning(codec: TaskCodec, call: Call) -> dict[str, Any]:
    bound = codec.signature.plain.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return {k: v for k, v in bound.arguments.items() if v not in ((), {}) or k.startswith("p")}


@given(functions())
def test_arguments_come_back_in_their_types(
    case: tuple[TaskCodec, tuple[Any, ...], dict[str, Any], dict[str, Any]],
) -> None:
    """Whatever the signature and however it was called, the worker calls the function with equal values of equal types."""
    codec, args, kwargs, means = case
    raw = codec.encode(Envelope(v=FORMAT, task="f", args=args), kwargs)

    call = codec.decode(raw)

    got = meaning(codec, call)
    assert got == {k: v for k, v in means.items() if v not in ((), {}) or k.startswith("p")}
    assert {k: type(v) for k, v in got.items()} == {k: type(means[k]) for k in got}


@given(functions())
def test_calls_by_name_mean_the_same(
    case: tuple[TaskCodec, tuple[Any, ...], dict[str, Any], dict[str, Any]],
) -> None:
    """A producer without the code, which cannot sort its arguments, reaches the same call."""
    codec, args, kwargs, _ = case
    checked = codec.decode(codec.encode(Envelope(v=FORMAT, task="f", args=args), kwargs))

    by_name = codec.decode(encode_call(Envelope(v=FORMAT, task="f", args=args, kwargs=kwargs)))

    assert meaning(codec, by_name) == meaning(codec, checked)


def shapeless(a: int, b: str = "", *, c: list[int] | None = None) -> None: ...


CODEC = TaskCodec(Signature.of(shapeless, "shapeless"))


@given(st.lists(json_values, max_size=4), st.dictionaries(st.sampled_from("abcd"), json_values, max_size=3))
def test_a_call_is_refused_or_runnable(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Enqueue either refuses a call before anything is written, or its bytes decode to a call that binds."""
    try:
        raw = CODEC.encode(Envelope(v=FORMAT, task="shapeless", args=tuple(args)), kwargs)
    except InvalidArguments as error:
        assert "'shapeless'" in str(error)
        return
    call = CODEC.decode(raw)

    shapeless(*call.args, **call.kwargs)

    assert type(call.args[0]) is int


@given(st.binary(max_size=60) | json_values.map(encode))
def test_foreign_bytes_never_raise_anything_else(raw: bytes) -> None:
    """Whatever lies in a stream, decoding it gives a call or one of the codec's own errors."""
    for attempt in (CODEC.decode, lambda r: reencode(r, job_id="x:1-1", attempt=2)):
        try:
            attempt(raw)
        except CodecError as error:
            assert str(error)
            assert error.call.args == ()


@given(
    st.dictionaries(
        text.filter(lambda k: k not in ("id", "attempt", "enqueued_at", "v", "args")), json_values
    ),
    st.integers(2, 9),
)
def test_retry_keeps_what_it_does_not_know(extra: dict[str, Any], attempt: int) -> None:
    """Fields of a later version, of any shape, are in the retried envelope byte for byte."""
    fields = {"v": FORMAT, "task": "shapeless", "args": [1], **extra}
    raw = json.dumps(fields).encode()

    again = reencode(raw, job_id="shapeless:5-0", attempt=attempt, enqueued_at=5)

    assert json.loads(again) == {**fields, "id": "shapeless:5-0", "attempt": attempt, "enqueued_at": 5}
    was, now = (msgspec.json.decode(r, type=dict[str, msgspec.Raw]) for r in (raw, again))
    assert all(bytes(now[name]) == bytes(was[name]) for name in extra)


@given(
    st.builds(
        Record,
        status=st.sampled_from(["dead", "cancelled"]),
        message=st.text(),
        traceback=st.text(),
        reason=st.text(),
    )
)
def test_every_outcome_can_be_written(record: Record) -> None:
    """Any text of an exception is stored, even what UTF-8 cannot hold; clean text comes back as it was."""
    back = decode_record(encode_record(record))

    assert back.status == record.status
    for was, now in ((record.message, back.message), (record.reason, back.reason)):
        assert now == was.encode(errors="backslashreplace").decode()


@given(st.sampled_from(typed).flatmap(lambda kind: st.tuples(st.just(kind[0]), kind[1])))
def test_results_come_back_in_their_type(case: tuple[Any, Any]) -> None:
    """A waiter gets what the body returned, in the type of the return annotation."""
    annotation, value = case

    def f() -> None: ...

    f.__annotations__["return"] = annotation
    codec = TaskCodec(Signature.of(f, "f"))

    record = decode_record(codec.encode_result(value))

    assert record.status == "succeeded"
    back = codec.decode_result(record.value)
    assert back == value
    assert type(back) is type(value)


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    return 1 + max(map(nesting, value), default=0) if isinstance(value, list) else 0


tricky = st.sampled_from(['"', "\\", "[[[", "}{", '\\"[', '"]', "\\\\"]) | text
trees: st.SearchStrategy[Any] = st.recursive(
    st.none() | tricky,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=20,
)


@given(trees, st.integers(1, 6))
def test_depth_is_counted_exactly(value: Any, limit: int) -> None:
    """Brackets and quotes inside strings do not count, all others do."""
    assert depth_exceeded(encode(value), limit) == (nesting(value) > limit)


def test_errors_of_the_codec_are_ours() -> None:
    """One except clause catches all of them."""
    assert issubclass(CodecError, FlowqError)
