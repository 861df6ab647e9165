"""Lua files: their assembly, the check of their header, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowq import AuthenticationFailed, OutcomeUnknown, ScriptFailed, ServerFull, Unavailable
from flowq.backends.redis.channel import open_channel
from flowq.backends.redis.script import Script, execute_sync, load_text

from .conftest import Proxy, Server

ADD = Script(
    "add",
    "#!lua flags=allow-oom\n"
    "-- Adds to a counter.\n"
    "local counter = KEYS[1]            -- string\n"
    "local amount = tonumber(ARGV[1])   -- int\n"
    "\n"
    "return redis.call('INCRBY', counter, amount)\n",
)
TOTAL = Script(
    "total",
    "#!lua\n"
    "local name = ARGV[1]  -- str\n"
    "local rest = 2        -- ARGV[2..]: numbers\n"
    "local sum = 0\n"
    "for i = rest, #ARGV do sum = sum + ARGV[i] end\n"
    "return {name, sum}\n",
)

# --- the header ---


def test_a_header_gives_names() -> None:
    """Keys, arguments and the tail are known by name, for the typed stub to be compared with."""
    assert (ADD.keys, ADD.args, ADD.rest) == (("counter",), ("amount",), None)
    assert (TOTAL.keys, TOTAL.args, TOTAL.rest) == ((), ("name",), "rest")
    assert repr(TOTAL) == "<Script total(; name, …)>"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("local a = KEYS[2]\n", "KEYS[1] is next"),
        ("local a = ARGV[1]\nlocal b = ARGV[3]\n", "ARGV[2] is next"),
        ("local a = ARGV[1]\nlocal b = ARGV[1]\n", "ARGV[2] is next"),
        ("local a = ARGV[1]\nlocal a = ARGV[2]\n", "one name"),
        ("local a = ARGV[1]\nreturn ARGV[1]\n", "ARGV below the header"),
        ("local a = KEYS[1]\nlocal b = 1\nlocal c = KEYS[2]\n", "KEYS below the header"),
        ("return #KEYS\n", "KEYS below the header"),
        ("return unpack(ARGV)\n", "ARGV below the header"),
        ("local rest = 2  -- ARGV[2..]: x\n", "begins at 1"),
        ("local rest = 1  -- ARGV[2..]: x\n", "begins at 1"),
        ("local rest = 1  -- ARGV[1..]: x\nlocal a = ARGV[1]\n", "line 2"),
        ("local rest = 1  -- ARGV[1..]: x\nreturn KEYS[1]\n", "KEYS below the header"),
    ],
)
def test_a_bad_header_is_refused_at_import(text: str, says: str) -> None:
    """Bindings count 1, 2, 3; below them neither KEYS nor ARGV may stand, but ARGV with a declared tail."""
    with pytest.raises(ValueError, match=r"bad\.lua") as caught:
        Script("bad", text)

    assert says in str(caught.value)


def test_comments_and_strings_may_speak_of_argv() -> None:
    """Only code is checked."""
    Script("fine", "local a = ARGV[1]\nlocal b = 'ARGV[2]' -- KEYS[1]\n--[[ ARGV\nKEYS ]]\nreturn a\n")


# --- fragments ---


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.lua").write_text(text)
    return folder / "main.lua"


def test_fragments_are_put_in_place(tmp_path: Path) -> None:
    """Each fragment comes once, where it was first asked for, also if fragments include each other."""
    main = write(
        tmp_path,
        main="local a = ARGV[1]\n--- @include one\n--- @include two\nreturn f(a)\n",
        one="--- @include two\nlocal x = 1\n",
        two="--- @include one\nlocal y = 2\n",
    )

    assert load_text(main) == "local a = ARGV[1]\nlocal y = 2\nlocal x = 1\nreturn f(a)\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--- @include none", "no none.lua"),
        ("--- @include one\n--- @include one", "twice"),
        ("--- @inlcude one", "no include"),
        ("--- @include one two", "no include"),
    ],
)
def test_a_bad_include_is_refused(tmp_path: Path, line: str, says: str) -> None:
    """A fragment that is not there, asked for twice, or a misspelt line never passes as a comment."""
    main = write(tmp_path, main=f"{line}\nreturn 1\n", one="local x = 1\n")
    with pytest.raises(ValueError, match=says):
        load_text(main)


# --- calls ---


async def test_a_script_is_loaded_when_the_server_does_not_have_it(server: Server, key: str) -> None:
    """NOSCRIPT proves that it did not run: it is loaded and sent once more, so it runs exactly once."""
    async with open_channel(server.address) as channel:
        for expected in (2, 4, 6):
            await channel.execute("SCRIPT", "FLUSH")

            assert await channel.evalsha(ADD, [key], [2]) == expected
        assert await channel.evalsha(ADD, [key], [2]) == 8


async def test_scripts_in_one_write(server: Server, key: str) -> None:
    """Several calls leave in one write; those that the server does not have are loaded and sent again, the others are not."""
    async with open_channel(server.address) as channel:
        await channel.execute("SCRIPT", "FLUSH")
        await channel.evalsha(TOTAL, [], ["n"])
        replies = await channel.evalsha_many([(ADD, [key], [1]), (TOTAL, [], ["n", 1, 2]), (ADD, [key], [1])])

        assert replies == [1, [b"n", 3], 2]
        before = channel.statistics().writes
        await channel.evalsha_many([(ADD, [key], [1]), (TOTAL, [], ["n"])])
        assert channel.statistics().writes == before + 1
        assert await channel.evalsha_many([]) == []


async def test_a_flood_of_flushes_loses_nothing(server: Server, key: str) -> None:
    """While somebody empties the script cache all the time, each call runs exactly once."""
    async with open_channel(server.address) as channel, open_channel(server.address) as other:

        async def call() -> None:
            for _ in range(40):
                await channel.evalsha(ADD, [key], [1])

        async def flush(scope: anyio.CancelScope) -> None:
            with scope:
                while True:
                    await other.execute("SCRIPT", "FLUSH")

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(flush, scope)
            async with anyio.create_task_group() as callers:
                for _ in range(5):
                    callers.start_soon(call)
            scope.cancel()

        assert await channel.execute("GET", key) == b"200"


async def test_a_call_with_the_wrong_number_of_arguments_is_not_sent(server: Server, key: str) -> None:
    """The header is the signature."""
    async with open_channel(server.address) as channel:
        for script, keys, args in ((ADD, [], [1]), (ADD, [key], []), (ADD, [key], [1, 2]), (TOTAL, [], [])):
            with pytest.raises(ScriptFailed, match="defect of flowq"):
                await channel.evalsha(script, keys, args)
        assert await channel.execute("EXISTS", key) == 0


async def test_a_script_that_fails(server: Server, key: str) -> None:
    """An error inside a script, such as a foreign value in its key, is ScriptFailed and names what the server said."""
    async with open_channel(server.address) as channel:
        await channel.execute("SET", key, "no number")
        with pytest.raises(ScriptFailed, match="not an integer"):
            await channel.evalsha(ADD, [key], [1])


async def test_part_of_a_pipeline_refused(new_server: Callable[..., Server], key: str) -> None:
    """When one script of a write ran and another was refused, "surely did not happen" would be a lie: the outcome is unknown."""
    server = new_server("--maxmemory", "1")
    store = Script("store", "#!lua\nlocal k = KEYS[1]\nreturn redis.call('SET', k, 'v')\n")
    read = Script("read", "#!lua flags=allow-oom\nlocal k = KEYS[1]\nreturn redis.call('EXISTS', k)\n")
    async with open_channel(server.address) as channel:
        with pytest.raises(ServerFull):
            await channel.evalsha_many([(store, [key], []), (store, [key], [])])
        with pytest.raises(OutcomeUnknown, match="maxmemory"):
            await channel.evalsha_many([(store, [key], []), (read, [key], [])])
        mixed = await channel.evalsha_many([(store, [key], []), (read, [key], [])], return_errors=True)

    assert isinstance(mixed[0], ServerFull)
    assert mixed[1] == 0


# --- without an event loop ---


def test_the_same_script_over_the_synchronous_client(server: Server, key: str) -> None:
    """``call_sync`` loads a missing script and sends it once more; its reply is as raw as the channel's."""
    with server.address.sync_client() as client:
        client.script_flush()

        assert ADD.call_sync(client, [key], [2]) == 2
        assert ADD.call_sync(client, [key], [2]) == 4
        assert TOTAL.call_sync(client, [], ["n", 1]) == [b"n", 1]
        with pytest.raises(ScriptFailed):
            ADD.call_sync(client, [], [])


def test_what_the_synchronous_client_knows_of_a_failure(server: Server, proxy: Proxy, key: str) -> None:
    """Nobody there: surely not executed. Cut off while waiting for the reply: unknown. Refused: as the table says."""
    gone = proxy.address(reply_timeout=0.3, connect_timeout=0.3)
    with gone.sync_client() as client:
        assert execute_sync(client, "PING") == b"PONG"
        proxy.silent = True
        with pytest.raises(OutcomeUnknown):
            execute_sync(client, "INCR", key)
        proxy.silent = False
        assert execute_sync(client, "GET", key) == b"1"
        proxy.close()
        with pytest.raises(Unavailable):
            execute_sync(client, "INCR", key)
        with pytest.raises(Unavailable):
            execute_sync(client, "INCR", key)
    with server.client() as look:
        assert look.get(key) == "1"


def test_errors_of_redis_py_have_our_classes(new_server: Callable[..., Server]) -> None:
    """redis-py's exceptions become the same errors as the channel's."""
    server = new_server("--maxmemory", "1", "--requirepass", "x")
    with server.address.sync_client() as client, pytest.raises(AuthenticationFailed):
        execute_sync(client, "PING")
    with server.address.sync_client(password="wrong") as client, pytest.raises(AuthenticationFailed):
        execute_sync(client, "PING")
    with server.address.sync_client(password="x") as client:
        cases: list[tuple[type[Exception], tuple[Any, ...]]] = [
            (ServerFull, ("SET", "k", "v")),
            (ServerFull, ("EVAL", "return redis.call('SET', 'k', 'v')", 0)),
            (Unavailable, ("EVALSHA", "0" * 40, 0)),
            (ScriptFailed, ("EVAL", "return nil + 1", 0)),
        ]
        for expected, command in cases:
            with pytest.raises(expected):
                execute_sync(client, *command)
        assert execute_sync(client, "PING") == b"PONG"
