"""A lane as this worker sees it: how a body of it is called, how many tokens it has here, how fast its bodies end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import anyio

from flowq._codec import Call, TaskCodec
from flowq._context import RunningJob, current
from flowq._core.limit import tokens
from flowq._core.prefetch import Pace
from flowq._options import TaskPolicy
from flowq._task import Task

Body = Callable[..., Awaitable[Any]]
Around = Callable[[RunningJob], AbstractAsyncContextManager[Any]]


class Lane:
    """Plain attributes on purpose: the consumers read them once per job.

    ``limiter`` is there while the lane is limited, as far as this worker has heard; ``outstanding`` counts the deliveries that
    were granted and whose settle has not been answered; ``ended`` and ``spent`` count bodies and their seconds since the pace
    was last measured.
    """

    __slots__ = (
        "body", "codec", "decode", "ended", "keeps_results", "limit", "limiter", "name", "outstanding", "pace", "policy",
        "result_ttl_ms", "spent", "sync", "task_name", "timeout",
    )  # fmt: skip

    def __init__(self, name: str, task: Task[..., Any], body: Body) -> None:
        codec: TaskCodec | None = task.registration.codec
        assert codec is not None, f"{name} is registered with its code"
        self.name = name
        self.task_name = task.name
        self.policy: TaskPolicy = task.policy
        self.sync = task.is_sync
        self.body = body
        self.codec = codec
        self.decode: Callable[[bytes], Call] = codec.decode
        self.keeps_results = self.policy.results
        self.result_ttl_ms = round(self.policy.result_ttl * 1000)
        self.timeout = math.inf if self.policy.timeout is None else self.policy.timeout
        self.limit: int | None = None
        self.limiter: anyio.CapacityLimiter | None = None
        self.outstanding = 0
        self.pace = Pace()
        self.ended = 0
        self.spent = 0.0

    def hear_limit(self, limit: int | None) -> None:
        """Learn the limit in force; None: there is none."""
        self.limit = limit
        if limit is None:
            self.limiter = None
        elif self.limiter is None:
            self.limiter = anyio.CapacityLimiter(1)
            self.limiter.total_tokens = 0

    def follow(self) -> None:
        """Have as many local tokens as deliveries that may run here."""
        if self.limiter is not None and self.limit is not None:
            total = tokens(self.outstanding, self.limit)
            if self.limiter.total_tokens != total:
                self.limiter.total_tokens = total

    def close(self) -> None:
        """No token any more: the lease is over, and nothing of this lane may start under it."""
        self.outstanding = 0
        if self.limiter is not None:
            self.limiter.total_tokens = 0

    @property
    def leaves_with_lease(self) -> bool:
        """Must a body of this lane end when the lease does?"""
        return (
            self.limit is not None or self.policy.limit is not None or self.policy.on_lease_loss == "cancel"
        )


def surrounded(body: Body, arounds: Iterable[Around]) -> Body:
    """The body inside the app's ``around_job`` managers, the first one outermost; as it is if there are none."""
    managers = tuple(arounds)
    if not managers:
        return body

    async def call(*args: Any, **kwargs: Any) -> Any:
        job = current.get()
        value = None  # what is left if a manager suppresses what the body raised
        async with AsyncExitStack() as stack:
            for around in managers:
                await stack.enter_async_context(around(job))
            value = await body(*args, **kwargs)
        return value  # noqa: RET504 - see above

    return call
