"""Many jobs at once: cut into what one batch may hold, and submitted one chunk after the other.

What this room does: say of a row of chunks what is known when one of them fails. What it will not do: send (see ``_producer``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from flowq._errors import FlowqError, InvalidArguments, SubmitUnknown
from flowq._job import Job
from flowq._model import Submission
from flowq._producer import MAX_BATCH, MAX_BYTES


class _HasSubmission(Protocol):
    @property
    def submission(self) -> Submission: ...


B = TypeVar("B", bound=_HasSubmission)
R = TypeVar("R")


def submission_of(bound: Any) -> Submission:
    """What is sent for a bound call.

    Raises:
        InvalidArguments: it is none.
    """
    submission: Submission | None = getattr(bound, "submission", None)
    if submission is None:
        raise InvalidArguments(
            f"what is submitted is made by bind(), as in resize.bind('a.png'); this is of type {type(bound).__qualname__}"
        )
    return submission


def chunks(bounds: Iterable[B]) -> Iterator[list[B]]:
    """Cut what shall be submitted into what one batch may hold."""
    chunk: list[B] = []
    size = 0
    for bound in bounds:
        size += len(submission_of(bound).envelope)
        if chunk and (len(chunk) == MAX_BATCH or size > MAX_BYTES):
            yield chunk
            chunk, size = [], len(bound.submission.envelope)
        chunk.append(bound)
    if chunk:
        yield chunk


async def submit_chunks(
    rest: Iterator[list[B]],
    submit: Callable[[list[B]], Awaitable[list[Job[R]]]],
    accepted: list[Job[R]],
    resend: Callable[[], Awaitable[list[Job[R]]]] | None = None,
) -> list[Job[R]]:
    """Submit one chunk after the other. Returns all jobs, those that were accepted before among them.

    Args:
        rest: those that are still to be sent.
        submit: sends one.
        accepted: the jobs of the chunks before them.
        resend: of the chunk before them it is not known whether it was stored: sends it again, first of all.

    Raises:
        FlowqError: what a chunk failed with. It carries ``accepted``; a ``SubmitUnknown`` can go on from there by its ``resend``.
    """
    try:
        if resend is not None:
            accepted += await resend()
        for chunk in rest:
            accepted += await submit(chunk)
    except SubmitUnknown as exc:
        unknown = SubmitUnknown(str(exc), partial(submit_chunks, rest, submit, accepted, exc.resend))
        unknown.accepted = tuple(accepted)
        raise unknown from exc.__cause__
    except FlowqError as exc:
        exc.accepted = tuple(accepted)
        raise
    return accepted
