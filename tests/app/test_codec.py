"""The wire format, case by case; property_tests/test_codec.py has the properties."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pydantic
import pytest

import flowq
from flowq._codec import (
    BadResult,
    Envelope,
    NewerFormat,
    Skew,
    TaskCodec,
    Undecodable,
    decode_record,
    encode_call,
    encode_record,
    job_id,
    reencode,
)
from flowq._model import Record
from flowq._signature import Signature

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Order(pydantic.BaseModel):
    id: UUID
    placed: datetime.datetime


@dataclass
class Line:
    sku: str
    count: int


@dataclass
class Fussy:
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise RuntimeError("never below zero")


async def resize(image: str, width: int = 200, height: int = 100) -> str:
    return image


async def ship(lines: list[Line], *, express: bool = False) -> None: ...
async def bill(order: Order) -> Order:
    return order


async def fuss(fussy: Fussy) -> None: ...
async def untyped(anything, more=()): ...  # type: ignore[no-untyped-def]  # what such a task gets is a behaviour too


def codec(fn: Callable[..., Any]) -> TaskCodec:
    return TaskCodec(Signature.of(fn, fn.__name__))


def encoded(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> bytes:
    return codec(fn).encode(Envelope(v=1, task=fn.__name__, args=args), kwargs)


def test_a_plain_job_has_no_more_than_it_needs() -> None:
    """Neither id nor attempt nor time: the stream entry tells them. That is all the memory that a waiting job costs."""
    assert encoded(resize, "a.png") == b'{"v":1,"task":"resize","args":["a.png"]}'


def test_what_can_be_given_by_position_is() -> None:
    """Names are resolved by the producer, who has them at hand; a default in the middle is filled in."""
    assert json.loads(encoded(resize, height=5, image="a.png"))["args"] == ["a.png", 200, 5]


def test_keyword_only_parameters_go_by_name() -> None:
    """They have no position."""
    raw = encoded(ship, [Line("a", 1)], express=True)

    call = codec(ship).decode(raw)

    assert json.loads(raw)["kwargs"] == {"express": True}
    assert (call.args, call.kwargs) == (([Line("a", 1)],), {"express": True})


def test_a_default_that_json_cannot_hold_stays_with_the_worker() -> None:
    """Later arguments go by name then, and the worker's own default applies."""

    async def f(a: int, how: int = None, b: int = 2) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - an implicit Optional is the point

    raw = codec(f).encode(Envelope(v=1, task="f", args=(1,)), {"b": 5})

    assert json.loads(raw)["kwargs"] == {"b": 5}
    assert codec(f).decode(raw).kwargs == {"b": 5}


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "says"),
    [
        (resize, (), {}, "'image'"),
        (resize, ("a", 1, 2, 3), {}, "too many positional arguments"),
        (resize, ("a",), {"widht": 1}, "did you mean 'width'?"),
        (resize, ("a",), {"image": "b"}, "'image'"),
        (resize, (5,), {}, "parameter 'image': Expected `str`, got `int`"),
        (resize, ("a", "5"), {}, "parameter 'width': Expected `int`, got `str`"),
        (resize, ("a", True), {}, "parameter 'width': Expected `int`, got `bool`"),
        (resize, (b"a",), {}, "parameter 'image': Expected `str`, got `bytes`"),
        (resize, ("\ud800",), {}, "surrogates not allowed"),
        (ship, ([Line("a", "1")],), {}, "parameter 'lines': Expected `int`, got `str`"),  # type: ignore[arg-type]  # the point
        (ship, ([Line("a", 1)],), {"express": 1}, "parameter 'express'"),
        (untyped, (object(),), {}, "parameter 'anything': a value of type object cannot be written as JSON"),
        (untyped, ({(1, 2): 3},), {}, "parameter 'anything': a tuple cannot be a key of a JSON object"),
        (bill, ({"id": "x"},), {}, "parameter 'order'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    """The error is a TypeError that names the task and the parameter, and nothing has been written."""
    with pytest.raises(flowq.InvalidArguments) as caught:
        encoded(fn, *args, **kwargs)

    assert f"'{fn.__name__}'" in str(caught.value)
    assert says in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_nesting_has_a_limit() -> None:
    """Deep nesting is refused where it is made, not found out by a worker's stack."""
    deep: Any = []
    for _ in range(150):
        deep = [deep]

    with pytest.raises(flowq.InvalidArguments, match="deeper than 100 levels"):
        encoded(untyped, deep)
    assert encoded(untyped, "[" * 150)


def test_size_has_a_limit() -> None:
    """The limit counts encoded bytes and the message says what to do instead."""
    envelope = Envelope(v=1, task="resize", args=("x" * 100,))

    with pytest.raises(flowq.PayloadTooLarge, match="135 bytes, the limit is 100: store the data elsewhere"):
        codec(resize).encode(envelope, {}, limit=100)


def test_pydantic_models_travel() -> None:
    """As arguments and as results, without registering anything."""
    order = Order(id=UUID(int=5), placed=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))

    call = codec(bill).decode(encoded(bill, order))
    record = decode_record(codec(bill).encode_result(order))

    assert call.args == (order,)
    assert codec(bill).decode_result(record.value) == order


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"", Undecodable, "truncated"),
        (b"\xff\xfe", Undecodable, "malformed"),
        (b'{"v":1,"args":["\xff"]}', Undecodable, "utf-8"),
        (b"[1]", Undecodable, "Expected `object`"),
        (b'{"args":["a"]}', Undecodable, "`v`"),
        (b'{"v":1,"args":["a"],"attempt":"x"}', Undecodable, "attempt"),
        (b'{"v":0,"args":["a"]}', Undecodable, "version 0 has never existed"),
        (b'{"v":1,"args":["a"],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Undecodable, "too deeply"),
        (b'{"v":2,"args":["a"]}', NewerFormat, "format version 2, this worker reads 1"),
        (b'{"v":2,"args":{"sealed":true},"key":7}', NewerFormat, "format version 2"),
        (b'{"v":1,"args":[],"enc":"aes"}', NewerFormat, "encrypted"),
        (b'{"v":1,"args":[5]}', Skew, "parameter 'image': Expected `str`, got `int`"),
        (b'{"v":1,"args":[]}', Skew, "needs the parameter 'image'"),
        (b'{"v":1,"args":["a",1,2,3]}', Skew, "takes 3 positional arguments, 4 were given"),
        (b'{"v":1,"args":["a"],"kwargs":{"depth":1}}', Skew, "has no parameter 'depth'"),
        (b'{"v":1,"args":["a"],"kwargs":{"image":"b"}}', Skew, "'image' was given twice"),
    ],
)
def test_each_bad_entry_has_its_own_error(raw: bytes, error: type[Exception], says: str) -> None:
    """Not a job: a dead letter. A newer format: somebody else's. Arguments that do not fit: perhaps somebody else's."""
    with pytest.raises(error) as caught:
        codec(resize).decode(raw)

    assert says.lower() in str(caught.value).lower()


def test_a_body_type_that_raises_is_skew() -> None:
    """A dataclass that refuses a value with an error of its own does not take the consumer down."""
    with pytest.raises(Skew, match="never below zero"):
        codec(fuss).decode(b'{"v":1,"args":[{"count":-1}]}')


def test_skew_still_tells_whose_job_it_was() -> None:
    """What settles the job needs its id, attempt and key, whatever is wrong with its arguments."""
    with pytest.raises(Skew) as caught:
        codec(resize).decode(b'{"id":"resize:d5-1","v":1,"args":[5],"attempt":3,"key":"k"}')

    assert (caught.value.call.id, caught.value.call.attempt, caught.value.call.key) == ("resize:d5-1", 3, "k")
    assert caught.value.call.args == ()


def test_an_entry_names_its_job_until_it_has_moved() -> None:
    """A job that was delayed or retried carries its id; every other job's id is its first entry."""
    first = codec(resize).decode(encoded(resize, "a"))
    again = codec(resize).decode(
        reencode(encoded(resize, "a"), job_id="resize:5-0", attempt=2, enqueued_at=5)
    )

    assert job_id("resize", "5-0", first) == "resize:5-0"
    assert job_id("resize", "9-0", again) == "resize:5-0"
    assert (again.attempt, again.enqueued_at) == (2, 5)


def test_retry_keeps_the_first_time_of_submit() -> None:
    """The second retry does not move it."""
    once = reencode(encoded(resize, "a"), job_id="resize:5-0", attempt=2, enqueued_at=5)

    twice = reencode(once, job_id="resize:5-0", attempt=3, enqueued_at=77)

    assert codec(resize).decode(twice).enqueued_at == 5


def test_numbers_of_others_survive_a_retry() -> None:
    """A field that this version does not know keeps even the spelling of its numbers."""
    raw = b'{"v":1,"task":"resize","args":["a"],"later":{"n": 1.10, "big": 123456789012345678901234567890}}'

    assert b'{"n": 1.10, "big": 123456789012345678901234567890}' in reencode(raw, job_id="x", attempt=2)


def test_a_delayed_job_gets_its_id_in_front() -> None:
    """The submit script writes the id right after the first brace: the envelope must stay readable so."""
    raw = encoded(resize, "a")

    call = codec(resize).decode(b'{"id":"resize:d5-1",' + raw[1:])

    assert (call.id, call.args) == ("resize:d5-1", ("a",))


@pytest.mark.parametrize("value", [object(), {1j}, "\ud800", {(1, 2): 3}])
def test_what_cannot_be_stored_is_said_clearly(value: object) -> None:
    """The body has run: the error names what it returned, and the way out."""
    with pytest.raises(BadResult, match=r"returned a .* that cannot be stored: .*results=False"):
        codec(untyped).encode_result(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_no_none(value: float) -> None:
    """msgspec writes null for it: a waiter would get None, or nothing that fits."""
    with pytest.raises(BadResult, match=rf"returned {value}, which has no form in JSON: .*results=False"):
        codec(untyped).encode_result(value)


def test_results_have_a_limit() -> None:
    """The same as for jobs."""
    with pytest.raises(flowq.PayloadTooLarge, match="'untyped' returned 102 bytes, the limit is 50"):
        codec(untyped).encode_result("x" * 100, limit=50)


def test_a_record_keeps_names_of_broken_files() -> None:
    """A message with a surrogate, as from a file name that is no UTF-8, is stored with a backslash in its place."""
    record = decode_record(encode_record(Record("dead", message="no such file: \udcff")))

    assert record.message == "no such file: \\udcff"


def later(x: Undefined) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the point
def checkers(x: OnlyForCheckers) -> None: ...
def calls(x: Callable[[], int]) -> None: ...
def iterates(x: Iterable[int]) -> None: ...
def nested(x: dict[str, list[Callable[[], int]]]) -> None: ...
def either(x: str | datetime.datetime) -> None: ...
def keys(x: dict[tuple[int, int], str]) -> None: ...
def returns(x: int) -> Callable[[], int]:
    return lambda: x


@dataclass
class Holder:
    socket: type[int]


def holds(x: Holder) -> None: ...


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (later, "'Undefined' is not defined"),
        (checkers, "not under TYPE_CHECKING"),
        (calls, "parameter 'x' is annotated"),
        (iterates, "has no form in JSON"),
        (nested, "collections.abc.Callable has no form in JSON"),
        (either, "more than one str-like type"),
        (keys, "use a list of pairs"),
        (returns, "its return value is annotated"),
        (holds, "field 'socket' of Holder"),
    ],
)
def test_what_json_cannot_give_back_is_refused_at_registration(fn: Callable[..., Any], says: str) -> None:
    """An annotation that cannot be served fails where the task is defined, not where its first job runs."""
    with pytest.raises(flowq.UnservableSignature) as caught:
        flowq.App("shop").task(fn)

    assert f"'{fn.__name__}'" in str(caught.value)
    assert says in str(caught.value)


async def stream(x: int) -> AsyncIterator[int]:
    yield x


@pytest.mark.parametrize("fn", [stream, 5, int])
def test_a_task_is_a_function(fn: Any) -> None:
    """Generators, classes and other callables are refused with a reason."""
    with pytest.raises(flowq.ConfigurationError):
        flowq.App("shop").task(fn)


def test_by_name_needs_no_signature() -> None:
    """A producer without the code writes what it was given, by position and by name."""
    raw = encode_call(Envelope(v=1, task="resize", args=("a",), kwargs={"height": 5}))

    call = codec(resize).decode(raw)

    assert (call.args, call.kwargs) == (("a",), {"height": 5})


def test_untyped_parameters_take_what_json_has() -> None:
    """Without an annotation a set arrives as a list: types come from annotations and nowhere else."""
    assert codec(untyped).decode(encoded(untyped, {5})).args == ([5],)


def test_structs_of_the_hot_path_are_not_tracked() -> None:
    """The garbage collector never looks at a decoded call: at 50,000 jobs/s that is seen."""
    import gc

    assert not gc.is_tracked(codec(resize).decode(encoded(resize, "a")))


def test_the_record_is_one_json_object() -> None:
    """It can be read in redis-cli and by other languages."""
    assert json.loads(codec(resize).encode_result("done")) == {"status": "succeeded", "value": "done"}
    assert msgspec.json.decode(codec(resize).encode_result(None)) == {"status": "succeeded", "value": None}
