"""A registered function: submit it, or call it. ``Task[P, R]`` carries the function's parameters and result type.

What this room does: turns a call into a checked, encoded submission. What it will not do: send it (that is the producer's).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, Unpack, cast

import attrs

from flowq._codec import FORMAT, Envelope, TaskCodec, encode_call
from flowq._errors import ConfigurationError, NotEntered, SubmitUnknown
from flowq._job import Home, Job
from flowq._model import Receipt, Submission
from flowq._options import Options, SubmitOptions, TaskPolicy
from flowq._signature import Signature

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class TaskHome(Home, Protocol):
    """The app, as far as a task needs it."""

    @property
    def name(self) -> str: ...
    @property
    def max_payload(self) -> int: ...
    def now(self) -> float: ...

    async def submit(self, bounds: list[Bound[R]]) -> list[Job[R]]: ...


@attrs.define(eq=False)
class Registration:
    """One function under one name. A Task and what ``options()`` makes of it share it, and see it included later."""

    name: str
    fn: Callable[..., Any] | None
    """None: submitted by name, without the code."""
    is_sync: bool
    given: Mapping[str, Any]
    aliases: tuple[str, ...]
    policy: TaskPolicy
    codec: TaskCodec | None
    home: TaskHome | None = None

    @property
    def lanes(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def keeps_results(self) -> bool:
        return self.policy.results

    @property
    def failure_ttl(self) -> float:
        return self.policy.failure_ttl

    @property
    def reader(self) -> TaskCodec | None:
        return self.codec

    @classmethod
    def by_name(cls, name: str, home: TaskHome, defaults: Mapping[str, Any]) -> Registration:
        """A task whose code is elsewhere."""
        return cls(name, None, False, {}, (), TaskPolicy.of(name, defaults), None, home)

    def move_in(self, home: TaskHome, prefix: str, defaults: Mapping[str, Any]) -> None:
        """Become a task of this app: under its full name, with the app's defaults below the task's own options."""
        self.home = home
        self.name = prefix + self.name
        self.aliases = tuple(prefix + alias for alias in self.aliases)
        self.policy = TaskPolicy.of(self.name, {**defaults, **self.given})
        if prefix and self.codec is not None:
            self.codec = TaskCodec(attrs.evolve(self.codec.signature, task=self.name))


def register(fn: Callable[..., Any], is_sync: bool, name: str, options: Mapping[str, Any]) -> Registration:
    """Read signature and options of a task that has no app yet."""
    return Registration(
        name=name,
        fn=fn,
        is_sync=is_sync,
        given={k: v for k, v in options.items() if k not in ("name", "aliases")},
        aliases=tuple(options.get("aliases", ())),
        policy=TaskPolicy.of(name, options),
        codec=TaskCodec(Signature.of(fn, name)),
    )


@attrs.frozen(eq=False)
class Bound(Generic[R_co]):
    """A call of a task, checked and encoded, to be submitted later: see ``App.enqueue_many`` and the synchronous producer."""

    registration: Registration = attrs.field(repr=False)
    submission: Submission

    @property
    def task(self) -> str:
        """The task's name."""
        return self.submission.lane

    def job(self, receipt: Receipt, home: Home) -> Job[R_co]:
        """The handle of what was stored."""
        return Job(receipt.job_id, self.registration, home, created=receipt.created)


class Task(Generic[P, R]):
    """A task that can be submitted. ``@app.task`` gives an ``AsyncTask`` or ``SyncTask``, which can be called directly too."""

    def __init__(self, registration: Registration, options: SubmitOptions | None = None) -> None:
        self.registration = registration
        self._options = options or SubmitOptions()
        self.__name__ = registration.name
        if registration.fn is not None:
            functools.update_wrapper(cast("Any", self), registration.fn)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The task's full name in its app."""
        return self.registration.name

    @property
    def aliases(self) -> tuple[str, ...]:
        """Former names, whose waiting jobs are served too."""
        return self.registration.aliases

    @property
    def policy(self) -> TaskPolicy:
        """The task's options, complete."""
        return self.registration.policy

    @property
    def is_sync(self) -> bool:
        """A plain ``def``: its bodies run in worker threads."""
        return self.registration.is_sync

    @property
    def fn(self) -> Callable[P, Any]:
        """The function itself. Raises ConfigurationError for a task that is known by name only."""
        return self.registration.fn or self._no_code()

    @property
    def codec(self) -> TaskCodec:
        """How its jobs are read. Raises ConfigurationError for a task that is known by name only."""
        return self.registration.codec or self._no_code()

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job for these arguments and return its handle. A checkpoint.

        Once this returns the job ends in exactly one recorded outcome, whatever workers crash. Concurrent calls share one write.
        Cancelled before the write, it withdraws the job; later it leaves it (use ``key=`` to find it again).

        Raises:
            InvalidArguments: they do not fit the signature or its annotations; nothing was sent. PayloadTooLarge: nothing was
                sent. Unavailable: surely not stored. SubmitUnknown: may be stored; ``await err.resend()`` is safe. ServerFull:
                refused. NotEntered: the app is not open in this event loop.
        """
        bound = self._bind(args, kwargs)
        return await _first(partial(self._home().submit, [bound]))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """Check and encode a call now, to submit it later, alone or with many others.

        Raises:
            InvalidArguments, PayloadTooLarge: as ``enqueue``.
        """
        return self._bind(args, kwargs)

    def options(self, **options: Unpack[Options]) -> Task[P, R]:
        """This task with options for what is submitted through it: ``await task.options(delay=10).enqueue(…)``.

        Raises:
            ConfigurationError: names the option and what would be right.
        """
        return Task(self.registration, self._options.merge(self.name, options))

    def job(self, job_id: str) -> Job[R]:
        """The handle of a job that was submitted before, here or elsewhere. Asks nobody: an unknown id shows when it is used."""
        return Job(job_id, self.registration, self._home())

    def _home(self) -> TaskHome:
        if self.registration.home is None:
            raise NotEntered(
                f"task {self.name!r} belongs to no app yet: app.include(tasks) comes before the first submit"
            )
        return self.registration.home

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound[R]:
        registration, options = self.registration, self._options
        limit = self._home().max_payload
        expires = options.expires
        if options.expires_in:
            expires = int(self._home().now() * 1000) + options.expires_in
        envelope = Envelope(
            v=FORMAT,
            task=registration.name,
            args=args,
            key=options.key,
            expires=expires,
            headers=options.headers,
            retries=options.retries,
            timeout=options.timeout,
            result_ttl=options.result_ttl,
        )
        if registration.codec is not None:
            raw = registration.codec.encode(envelope, kwargs, limit=limit)
        else:
            envelope.kwargs = kwargs
            raw = encode_call(envelope, limit=limit)
        submission = Submission(registration.name, raw, options.delay_ms, options.at_ms, options.key)
        return Bound(registration, submission)

    def _no_code(self) -> NoReturn:
        raise ConfigurationError(f"task {self.name!r} is known by name only: its code is not in this process")


async def _first(send: Callable[[], Awaitable[list[Job[R]]]]) -> Job[R]:
    try:
        return (await send())[0]
    except SubmitUnknown as exc:
        raise SubmitUnknown(str(exc), partial(_first, exc.resend)) from exc.__cause__


class AsyncTask(Task[P, R]):
    """A task whose function is ``async def``. Called directly it is just that function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return cast("Coroutine[Any, Any, R]", self.fn(*args, **kwargs))


class SyncTask(Task[P, R]):
    """A task whose function is a plain ``def``. Called directly it is just that function, here, in the caller's thread."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self.fn(*args, **kwargs))
