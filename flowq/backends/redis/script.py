"""A Lua script: its text, the names of what it takes, and how it is called.

A ``.lua`` file begins with an optional ``#!lua`` line and a header of bindings, which is code and documentation at once::

    #!lua flags=allow-oom
    -- What it does.
    local clock = KEYS[1]            -- <prefix>clock
    local member = ARGV[1]           -- str
    local room = tonumber(ARGV[2])   -- int
    local rest = 3                   -- ARGV[3..]: (lane, extra), …

    --- @include clock

``KEYS[`` and ``ARGV[`` are bound there, counted 1, 2, 3 without a gap, and may not appear below, so that swapped arguments cannot
hide in a body; only a script that declares a ``rest`` may read ``ARGV`` further down. All of this is checked when the script is made,
at import.

Scripts go by their content (EVALSHA), so two versions of flowq can run side by side during a deploy.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import redis
import redis.exceptions

from flowq._errors import ScriptFailed
from flowq.backends.redis.login import read_version
from flowq.backends.redis.replies import NoScript, from_redis_py
from flowq.backends.redis.url import Address, Tls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowq.backends.redis.connection import Arg

SHEBANG_SINCE: Final = (7, 0, 0)
"""The first Redis that knows ``#!lua``; below it a script that begins so does not compile."""

_INCLUDE = re.compile(r"--- @include (\S+)\s*")
_BINDING = re.compile(r"local (\w+) = (?:tonumber\((KEYS|ARGV)\[(\d+)\]\)|(KEYS|ARGV)\[(\d+)\])\s*(?:--.*)?")
_REST = re.compile(r"local (\w+) = (\d+)\s*--\s*ARGV\[(\d+)\.\.\].*")
_COMMENT_OR_BLANK = re.compile(r"\s*(?:--.*)?")
_STRING_OR_COMMENT = re.compile(
    r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|--\[\[.*?\]\]|--[^\n]*""", re.DOTALL
)
_TAKEN = re.compile(r"\b(KEYS|ARGV)\b")


def load_text(path: Path) -> str:
    """Read a ``.lua`` file and put fragments in the place of its ``--- @include name`` lines.

    A fragment is the file ``name.lua`` beside it; it may include others. Each comes once, where it was first asked for.

    Raises:
        ValueError: there is no such fragment, or one file asks twice for the same.
    """
    return _assemble(path, {path.stem})


def _assemble(path: Path, done: set[str]) -> str:
    lines: list[str] = []
    asked: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        include = _INCLUDE.fullmatch(line)
        if include is None:
            if line.startswith("--- @"):
                raise ValueError(f"{path.name} has a line that is no include: {line}")
            lines.append(line)
            continue
        name = include[1]
        if name in asked:
            raise ValueError(f"{path.name} includes {name} twice")
        asked.add(name)
        if name in done:
            continue
        done.add(name)
        fragment = path.with_name(f"{name}.lua")
        if not fragment.is_file():
            raise ValueError(f"{path.name} includes {name}, but there is no {fragment.name} beside it")
        lines.append(_assemble(fragment, done).rstrip("\n"))
    return "\n".join(lines) + "\n"


class Script:
    """One script, checked when it is made. Immutable, hashable by identity, and good for any number of servers.

    Attributes:
        name: for messages.
        keys: names bound to ``KEYS[1]`` and on.
        args: names bound to ``ARGV[1]`` and on.
        rest: the name of the variadic tail, or None: then a call has exactly ``len(args)`` arguments.
    """

    def __init__(self, name: str, text: str) -> None:
        """Check the header.

        Raises:
            ValueError: bindings that are not 1, 2, 3 …, or ``KEYS``/``ARGV`` below the header.
        """
        self.name = name
        self.keys, self.args, self.rest = _read_header(name, text)
        self._text = text
        self._text_6 = text.partition("\n")[2] if text.startswith("#!") else text
        self._sha = _sha1(self._text)
        self._sha_6 = _sha1(self._text_6)

    def __repr__(self) -> str:
        tail = ", …" if self.rest else ""
        return f"<Script {self.name}({', '.join(self.keys)}; {', '.join(self.args)}{tail})>"

    def text_for(self, server_version: tuple[int, int, int]) -> str:
        """The text for SCRIPT LOAD on a server of this version."""
        return self._text if server_version >= SHEBANG_SINCE else self._text_6

    def command(
        self, server_version: tuple[int, int, int], keys: Sequence[Arg], args: Sequence[Arg]
    ) -> tuple[Arg, ...]:
        """The EVALSHA command.

        Raises:
            ScriptFailed: not as many keys or arguments as the header binds. Nothing was sent.
        """
        if len(keys) != len(self.keys) or (
            len(args) < len(self.args) if self.rest is not None else len(args) != len(self.args)
        ):
            raise ScriptFailed(
                f"{self!r} was called with {len(keys)} keys and {len(args)} arguments: a defect of flowq"
            )
        sha = self._sha if server_version >= SHEBANG_SINCE else self._sha_6
        return ("EVALSHA", sha, len(keys), *keys, *args)

    def call_sync(self, client: redis.Redis, keys: Sequence[Arg], args: Sequence[Arg]) -> Any:
        """Run it over redis-py's synchronous client (``Address.sync_client``); what it returns is not decoded.

        Raises:
            Unavailable: it surely did not run. OutcomeUnknown: it may have. ServerTooOld: it cannot. Else as ``replies.TABLE`` says.
        """
        version = _versions.get(client) or _ask_version(client)
        try:
            return execute_sync(client, *self.command(version, keys, args))
        except NoScript:
            # another server may be behind the address by now
            version = _ask_version(client)
            execute_sync(client, "SCRIPT", "LOAD", self.text_for(version))
            return execute_sync(client, *self.command(version, keys, args))


def execute_sync(client: redis.Redis, *args: Arg) -> Any:
    """Send one command over redis-py's synchronous client, once, and return its raw reply.

    redis-py's own ``execute_command`` cannot say whether a request had left when the connection failed; taking the connection
    first makes that plain.

    Raises:
        Unavailable: it surely did not happen. OutcomeUnknown: the reply was lost. Else as ``replies.TABLE`` says.
    """
    pool: Any = client.connection_pool
    where = _where(pool)
    try:
        connection = pool.get_connection()
    except redis.exceptions.RedisError as error:
        raise from_redis_py(error, where, sent=False) from error
    finished = False
    try:
        connection.send_command(*args)
        reply = connection.read_response()
        finished = True
    except redis.exceptions.ResponseError as error:
        finished = True
        raise from_redis_py(error, where, sent=True) from error
    except redis.exceptions.RedisError as error:
        raise from_redis_py(error, where, sent=True) from error
    finally:
        # without its reply, a connection would answer the next request with it
        if not finished:
            connection.disconnect()
        pool.release(connection)
    return reply


_versions: WeakKeyDictionary[redis.Redis, tuple[int, int, int]] = WeakKeyDictionary()


def _ask_version(client: redis.Redis) -> tuple[int, int, int]:
    info: bytes = execute_sync(client, "INFO", "server")
    found = re.search(rb"redis_version:(\S*)", info)
    version = read_version(found[1].decode(errors="replace") if found else "", _where(client.connection_pool))
    _versions[client] = version
    return version


def _where(pool: Any) -> str:
    """The server of a pool, as a URL without its password: the one that the user gave."""
    given: dict[str, Any] = pool.connection_kwargs
    said = {
        name: given[name]
        for name in ("host", "port", "path", "username", "password", "db")
        if given.get(name)
    }
    return Address(
        tls=Tls() if issubclass(pool.connection_class, redis.SSLConnection) else None, **said
    ).redacted()


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _read_header(name: str, text: str) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    bound: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    rest: str | None = None
    lines = text.split("\n")
    at = 1 if text.startswith("#!") else 0
    while at < len(lines):
        line = lines[at]
        if binding := _BINDING.fullmatch(line):
            kind, number = binding[2] or binding[4], int(binding[3] or binding[5])
            if number != len(bound[kind]) + 1 or rest is not None:
                raise ValueError(
                    f"{name}.lua, line {at + 1}: {kind}[{number}] where {kind}[{len(bound[kind]) + 1}] is next"
                )
            bound[kind].append(binding[1])
        elif tail := _REST.fullmatch(line):
            if rest is not None or not int(tail[2]) == int(tail[3]) == len(bound["ARGV"]) + 1:
                raise ValueError(
                    f"{name}.lua, line {at + 1}: the tail begins at {len(bound['ARGV']) + 1} and is declared once"
                )
            rest = tail[1]
        elif not _COMMENT_OR_BLANK.fullmatch(line):
            break
        at += 1
    names = [*bound["KEYS"], *bound["ARGV"], *([rest] if rest else [])]
    if len(set(names)) != len(names):
        raise ValueError(f"{name}.lua: two bindings of one name in {names}")
    _check_body(name, "\n".join(lines[at:]), may_read_argv=rest is not None)
    return tuple(bound["KEYS"]), tuple(bound["ARGV"]), rest


def _check_body(name: str, body: str, *, may_read_argv: bool) -> None:
    code = _STRING_OR_COMMENT.sub("''", body)
    for taken in _TAKEN.finditer(code):
        if taken[1] == "KEYS" or not may_read_argv:
            line = code[code.rfind("\n", 0, taken.start()) + 1 :].partition("\n")[0].strip()
            raise ValueError(f"{name}.lua: {taken[1]} below the header, where only names may stand: {line}")
