"""What an error reply proves: one table, used for hiredis and for redis-py alike.

An error reply says three things: which error of ours it is, whether it proves that nothing of the command took effect (so that
sending it again is safe), and whether the connection behind it is still worth having. Everything that is not in the table is
taken as proving nothing: a script that fails half way has no rollback.

Why ``OOM``, ``READONLY``, ``MISCONF`` and ``NOREPLICAS`` are proof even from inside a script: Redis checks them before a script's
first write and never after it (``scriptVerifyWriteCommandAllow`` in Redis 7; run here on 6.2.14 and 8.2.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import redis.exceptions

from flowq._errors import (
    AuthenticationFailed,
    BadURL,
    ConfigurationError,
    FlowqError,
    ForeignValue,
    OutcomeUnknown,
    ReadOnlyServer,
    ScriptFailed,
    ServerError,
    ServerFull,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT: Final = 200
"""Characters of a server's text that go into a message of ours."""


class NoScript(Unavailable):
    """The server does not have that script (any more). Surely not executed; ``script`` loads it and sends once more."""


class NoGroup(ServerError):
    """A stream or its consumer group is gone: somebody flushed the server or destroyed the group."""


@attrs.frozen
class Rule:
    """One row of the table."""

    error: type[FlowqError]
    unexecuted: bool
    """The reply proves that nothing of the command took effect."""
    drop: bool
    """The connection is of no use any more: close it and look again who is behind the address."""
    advice: str


TABLE: Final[Mapping[str, Rule]] = {
    "NOSCRIPT": Rule(NoScript, True, False, "the script cache was emptied; try again"),
    "NOAUTH": Rule(AuthenticationFailed, True, True, "Redis wants a password: put it into the URL"),
    "WRONGPASS": Rule(AuthenticationFailed, True, True, "wrong user or password in the URL"),
    "NOPERM": Rule(
        AuthenticationFailed, True, False, "the ACL of this user forbids a command or key that flowq needs"
    ),
    "SCRIPTPERM": Rule(
        AuthenticationFailed,
        False,
        False,
        "the ACL of this user forbids a command or key that a script of flowq needs",
    ),
    "DENIED": Rule(
        AuthenticationFailed,
        True,
        True,
        "Redis is in protected mode: set a password on it, or connect locally",
    ),
    "READONLY": Rule(
        ReadOnlyServer, True, True, "a read-only replica answered: point the URL at the primary"
    ),
    "MASTERDOWN": Rule(
        ReadOnlyServer, True, True, "a replica without its primary answered: point the URL at the primary"
    ),
    "UNBLOCKED": Rule(
        Unavailable, True, True, "the server changed its role while this call waited; try again"
    ),
    "LOADING": Rule(Unavailable, True, False, "Redis is reading its data from disk; try again"),
    "BUSY": Rule(Unavailable, True, False, "a script has been running for long and blocks Redis; try again"),
    "MISCONF": Rule(
        Unavailable, True, False, "Redis cannot write to its disk and refuses writes: look at its log"
    ),
    "NOREPLICAS": Rule(
        Unavailable, True, False, "fewer replicas than min-replicas-to-write are connected; try again"
    ),
    "CLUSTERDOWN": Rule(Unavailable, True, False, "the Redis Cluster is down; try again"),
    "TRYAGAIN": Rule(Unavailable, True, False, "the Redis Cluster is moving these keys; try again"),
    "ASK": Rule(Unavailable, True, False, "the Redis Cluster is moving these keys; try again"),
    "MOVED": Rule(
        ConfigurationError,
        True,
        False,
        "this node of a Redis Cluster does not keep the app's keys: point the URL at the node named",
    ),
    "WRONGTYPE": Rule(
        ForeignValue,
        False,
        False,
        "a foreign value lies in one of the app's keys: `flowq doctor` names it; rename it, or use another app name",
    ),
    "CROSSSLOT": Rule(ScriptFailed, True, False, "keys of more than one hash slot in one call"),
    "OOM": Rule(
        ServerFull,
        True,
        False,
        "Redis has reached maxmemory: nothing was stored; let workers drain, or give it memory",
    ),
    "NOGROUP": Rule(NoGroup, False, False, "a stream or its consumer group is gone"),
    "MAXCLIENTS": Rule(Unavailable, True, True, "Redis has reached maxclients; try again"),
    "NODB": Rule(
        BadURL, True, True, "the database that the URL names is not there: redis://host:port/0 always is"
    ),
}

OTHER: Final = Rule(
    ScriptFailed,
    False,
    False,
    "Redis refused a call of flowq: a defect of flowq, or a foreign value in one of its keys",
)

_CODE = re.compile(r"[A-Z][A-Z0-9]*(?= |$)")
_INSIDE_SCRIPT_6 = re.compile(r"@user_script: ?\d+: (?:@user_script: \d+: )?-?(.*)", re.DOTALL)
_INSIDE_SCRIPT_7 = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")
_WITHOUT_CODE: Final = (
    ("max number of clients reached", "MAXCLIENTS"),
    ("DB index is out of range", "NODB"),
    # Redis before 6
    ("invalid password", "WRONGPASS"),
    ("wrong number of arguments for 'auth' command", "WRONGPASS"),
    ("Client sent AUTH, but no password is set", "WRONGPASS"),
)
"""Replies that the server gives no code of their own: a phrase, and its row."""
_ACL_INSIDE_SCRIPT = ("ACL failure in script", "The user executing the script can't")


class ErrorReply(Exception):
    """An error reply as the server wrote it, in the place of the reply.

    hiredis makes it; it never leaves this room. ``code`` is a key of ``TABLE`` or ``"ERR"``; ``text`` is cut, printable, and
    without the arguments that Redis repeats in "unknown command" (HELLO carries the password).
    """

    def __init__(self, message: str) -> None:
        self.code = _code(message)
        self.text = _printable(message.partition(", with args beginning with")[0])
        super().__init__(self.text)


def _code(message: str) -> str:
    text = message
    if inside := _INSIDE_SCRIPT_6.search(message):
        text = inside[1]
    if any(phrase in message for phrase in _ACL_INSIDE_SCRIPT):
        return "SCRIPTPERM"
    found = _CODE.match(text)
    code = found[0] if found else "ERR"
    if code == "NOPERM" and (inside or _INSIDE_SCRIPT_7.search(message)):
        return "SCRIPTPERM"
    return code if code in TABLE else next((row for phrase, row in _WITHOUT_CODE if phrase in text), "ERR")


def _printable(text: str) -> str:
    """Server text for messages and logs: no control characters (terminal and log injection), not long."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…"


def rule_of(reply: ErrorReply) -> Rule:
    """The row of the table for this reply."""
    return TABLE.get(reply.code, OTHER)


def as_error(reply: ErrorReply, where: str) -> FlowqError:
    """The error to raise for this reply. ``where`` names the server, without its password."""
    rule = rule_of(reply)
    error = rule.error(f"{rule.advice} ({where} answered: {reply.text})")
    error.__cause__ = reply
    return error


def as_map(reply: Any) -> dict[bytes, Any]:
    """A map reply in one shape: RESP3 has maps, RESP2 flat lists of pairs."""
    if isinstance(reply, dict):
        return cast("dict[bytes, Any]", reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


_CODE_OF_CLASS: Final[Mapping[str, str]] = {
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "NoPermissionError": "NOPERM",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "ClusterCrossSlotError": "CROSSSLOT",
}


def error_reply_of(error: redis.exceptions.RedisError) -> ErrorReply | None:
    """The error reply behind an exception of redis-py; None if there was no reply (connection lost, timeout)."""
    code = _CODE_OF_CLASS.get(type(error).__name__)
    text = str(error)
    if code is not None:
        return ErrorReply(f"{code} {text}")
    if isinstance(error, redis.exceptions.AuthenticationError):
        return ErrorReply(f"{'NOAUTH' if 'required' in text else 'WRONGPASS'} {text}")
    if isinstance(error, redis.exceptions.ResponseError):
        return ErrorReply(text)
    return None


def from_redis_py(error: redis.exceptions.RedisError, where: str, *, sent: bool) -> FlowqError:
    """Our error for one of redis-py's.

    Args:
        error: what redis-py raised.
        where: names the server, without its password.
        sent: the request may have left; without a reply its outcome is then unknown.
    """
    reply = error_reply_of(error)
    if reply is not None:
        return as_error(reply, where)
    reason = _printable(str(error) or type(error).__name__)
    if sent:
        return OutcomeUnknown(f"the connection to {where} was lost before the reply came: {reason}")
    if where.startswith("rediss://") and isinstance(error, redis.exceptions.TimeoutError):
        reason += " (if it speaks no TLS, begin the URL with redis://)"
    return Unavailable(f"cannot reach {where}: {reason}")
