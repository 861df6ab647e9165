"""What callers talk to Redis through: commands and scripts, many callers on one link.

Commands of one loop tick leave in one write; see ``pipeline`` for how, and for what happens when the link is lost. A caller may be
cancelled at any moment. Nothing is sent twice, but a script that the server proved not to have run (NOSCRIPT).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskStatus

from flowq._errors import FlowqError, OutcomeUnknown, Unavailable
from flowq.backends.redis.connection import Arg, pack, running_beside
from flowq.backends.redis.pipeline import OnConnect, Pipeline, State, Statistics
from flowq.backends.redis.replies import ErrorReply, as_error, rule_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from flowq.backends.redis.script import Script
    from flowq.backends.redis.url import Address


class Channel:
    """Made with ``open_channel``, or with its ``run`` started in a nursery. Belongs to one event loop."""

    def __init__(
        self,
        address: Address,
        *,
        name: str = "flowq",
        on_connect: OnConnect | None = None,
        reply_timeout: float | None = None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            address: which Redis.
            name: shown by CLIENT LIST.
            on_connect: awaited with each new connection before any call uses it. If it raises a ``ServerError`` the connection
                has failed.
            reply_timeout: seconds of silence, while a reply is awaited, after which the link is given up; None takes the address's.
        """
        self.address = address
        self._where = address.redacted()
        self._pipeline = Pipeline(address, name=name, on_connect=on_connect, reply_timeout=reply_timeout)

    def __repr__(self) -> str:
        return f"<Channel {self._pipeline.describe()}>"

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the channel connected until cancelled. Starts (``task_status``) when the first attempt has ended.

        Raises:
            AuthenticationFailed, ServerTooOld, ReadOnlyServer, ConfigurationError: at the first connection only. Later ones are logged, and tried
                again: they may be mended outside.
        """
        await self._pipeline.run(task_status=task_status)

    @property
    def state(self) -> State:
        """``"connecting"`` until the first attempt has ended, ``"up"`` while commands flow, else ``"down"``: it connects again."""
        return self._pipeline.state

    @property
    def generation(self) -> int:
        """Goes up by one each time that a new connection takes calls."""
        return self._pipeline.generation

    @property
    def why_down(self) -> FlowqError | None:
        """What went wrong last, while it is not up."""
        return self._pipeline.why_down

    @property
    def server_version(self) -> tuple[int, int, int]:
        """Of the connection at hand, or of the last one."""
        return self._pipeline.server_version

    def statistics(self) -> Statistics:
        return self._pipeline.statistics()

    async def wait_up(self) -> None:
        """Wait until commands can flow.

        Raises:
            Unavailable: the channel was closed.
        """
        await self._pipeline.wait_up()

    async def execute(self, *args: Arg, wait: bool = False, timeout: float | None = None) -> Any:
        """Send one command and wait for its reply. May be cancelled at any time.

        Args:
            args: the command.
            wait: while the channel is down, wait for it instead of failing at once.
            timeout: seconds for all of it; None: no limit but the link's own.

        Raises:
            Unavailable: it surely was not executed: the channel is down, or the time was over before it was written.
            OutcomeUnknown: it was written and the reply was lost or late.
            ServerError: the server refused it; see ``replies.TABLE``.
        """
        (reply,) = await self._pipeline.request(pack(args), 1, wait, timeout)
        if type(reply) is ErrorReply:
            raise as_error(reply, self._where)
        return reply

    async def execute_many(
        self,
        commands: Iterable[Sequence[Arg]],
        *,
        return_errors: bool = False,
        wait: bool = False,
        timeout: float | None = None,
    ) -> list[Any]:
        """Send commands back to back in one write and wait for all replies. It is no transaction.

        Args:
            commands: each a sequence of arguments.
            return_errors: put a ``FlowqError`` in the place of a refused command's reply instead of raising.
            wait: as in ``execute``.
            timeout: as in ``execute``.

        Raises:
            OutcomeUnknown: also if some were executed and some refused in a way that by itself would mean "did not happen".
        """
        packed = [pack(tuple(command)) for command in commands]
        if not packed:
            return []
        replies = await self._pipeline.request(b"".join(packed), len(packed), wait, timeout)
        return self._judge(replies, return_errors)

    async def evalsha(
        self,
        script: Script,
        keys: Sequence[Arg],
        args: Sequence[Arg],
        *,
        wait: bool = False,
        timeout: float | None = None,
        at_once: bool = False,
    ) -> Any:
        """Run a script. If the server does not have it, it is loaded and the call sent once more: NOSCRIPT proves that it did not run.
        ``at_once`` as in ``evalsha_many``.

        Raises:
            As ``execute``.
        """
        command = pack(script.command(self._pipeline.server_version, keys, args))
        (reply,) = await self._pipeline.request(command, 1, wait, timeout, at_once=at_once)
        if type(reply) is ErrorReply:
            if reply.code == "NOSCRIPT":
                (reply,) = await self._load_and_resend([(script, keys, args)], wait, timeout)
            if type(reply) is ErrorReply:
                raise as_error(reply, self._where)
        return reply

    async def evalsha_many(
        self,
        calls: Sequence[tuple[Script, Sequence[Arg], Sequence[Arg]]],
        *,
        return_errors: bool = False,
        wait: bool = False,
        timeout: float | None = None,
        at_once: bool = False,
    ) -> list[Any]:
        """Run scripts back to back in one write, each loaded and sent once more if the server does not have it.

        A resent one then runs after those that the server had. Arguments and errors as ``execute_many``; ``at_once``: do not wait for
        what others may want to send in this turn of the loop.
        """
        if not calls:
            return []
        packed = [
            pack(script.command(self._pipeline.server_version, keys, args)) for script, keys, args in calls
        ]
        replies = await self._pipeline.request(b"".join(packed), len(packed), wait, timeout, at_once=at_once)
        unknown = [
            i for i, reply in enumerate(replies) if type(reply) is ErrorReply and reply.code == "NOSCRIPT"
        ]
        if unknown:
            try:
                resent = await self._load_and_resend([calls[i] for i in unknown], wait, timeout)
            except Unavailable as error:
                if len(unknown) == len(calls):
                    raise
                raise OutcomeUnknown(f"part of a pipeline was executed, part not sent: {error}") from error
            for i, reply in zip(unknown, resent, strict=True):
                replies[i] = reply
        return self._judge(replies, return_errors)

    async def _load_and_resend(
        self, calls: Sequence[tuple[Script, Sequence[Arg], Sequence[Arg]]], wait: bool, timeout: float | None
    ) -> list[Any]:
        packed: list[bytes] = []
        for script, keys, args in calls:
            packed.append(pack(("SCRIPT", "LOAD", script.text_for(self._pipeline.server_version))))
            packed.append(pack(script.command(self._pipeline.server_version, keys, args)))
        replies = await self._pipeline.request(b"".join(packed), len(packed), wait, timeout)
        answers: list[Any] = []
        for loaded, answer in zip(replies[::2], replies[1::2], strict=True):
            refused = type(loaded) is ErrorReply and type(answer) is ErrorReply and answer.code == "NOSCRIPT"
            answers.append(loaded if refused else answer)
        return answers

    def _judge(self, replies: list[Any], return_errors: bool) -> list[Any]:
        refused = [reply for reply in replies if type(reply) is ErrorReply]
        if not refused:
            return replies
        if return_errors:
            return [as_error(reply, self._where) if type(reply) is ErrorReply else reply for reply in replies]
        error = as_error(refused[0], self._where)
        nothing_happened = len(refused) == len(replies) and all(
            rule_of(reply).unexecuted for reply in refused
        )
        if rule_of(refused[0]).unexecuted and not nothing_happened:
            raise OutcomeUnknown(f"part of a pipeline was executed, part refused: {error}") from error
        raise error


@asynccontextmanager
async def open_channel(
    address: Address,
    *,
    name: str = "flowq",
    on_connect: OnConnect | None = None,
    reply_timeout: float | None = None,
) -> AsyncGenerator[Channel]:
    """A channel for the length of a block. Arguments as ``Channel``.

    It is entered when the first attempt to connect has ended; if that failed in a way that may pass, the channel is ``"down"`` and
    tries again (``await channel.wait_up()``, ``channel.why_down``).

    Raises:
        AuthenticationFailed, ServerTooOld, ReadOnlyServer, ConfigurationError: the first connection cannot work.
    """
    channel = Channel(address, name=name, on_connect=on_connect, reply_timeout=reply_timeout)
    async with running_beside(channel.run):
        yield channel
