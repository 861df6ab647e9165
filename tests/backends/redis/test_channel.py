"""Many callers on one link: coalescing, order, cancellation, and what each caller is told when the link is lost."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel
import attrs
import pytest

from flowq import (
    AuthenticationFailed,
    ConfigurationError,
    FlowqError,
    OutcomeUnknown,
    ReadOnlyServer,
    ScriptFailed,
    ServerError,
    Unavailable,
)
from flowq.backends.redis.channel import Channel, open_channel
from flowq.backends.redis.connection import Connection
from flowq.backends.redis.script import Script
from flowq.backends.redis.url import parse_url

from .conftest import Proxy, Server, running, until


async def kill(server: Server, name: str) -> int:
    """Kill the links of that name from the server's side; returns how many there were."""
    with server.client() as client:
        found = [row for row in client.client_list() if row["name"] == name]
        for row in found:
            client.execute_command("CLIENT", "KILL", "ID", row["id"])
    return len(found)


# --- commands ---


async def test_a_command_and_its_reply(server: Server, key: str) -> None:
    """Arguments may be bytes, text and numbers; replies are bytes, integers, lists and None."""
    async with open_channel(server.address) as channel:
        assert await channel.execute("SET", key, b"\x00\xff") == b"OK"
        assert await channel.execute("GET", key) == b"\x00\xff"
        assert await channel.execute("INCRBYFLOAT", f"{key}f", 1.5) == b"1.5"
        assert await channel.execute("RPUSH", f"{key}l", 1, "zwei", b"3") == 3
        assert await channel.execute("LRANGE", f"{key}l", 0, -1) == [b"1", b"zwei", b"3"]
        assert await channel.execute("GET", f"{key}none") is None
        assert await channel.execute_many([]) == []


async def test_commands_of_one_tick_leave_in_one_write(server: Server) -> None:
    """A hundred tasks that call in the same loop tick cost one write, and each gets its own reply."""
    async with open_channel(server.address) as channel:
        replies: dict[int, bytes] = {}

        async def call(number: int) -> None:
            replies[number] = await channel.execute("ECHO", number)

        before = channel.statistics()
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, number)
        after = channel.statistics()

    assert replies == {number: str(number).encode() for number in range(100)}
    assert after.writes - before.writes == 1
    assert after.calls - before.calls == 100


async def test_commands_back_to_back(server: Server, key: str) -> None:
    """``execute_many`` keeps its commands together, whatever other callers send meanwhile."""
    async with open_channel(server.address) as channel:
        results: list[list[int]] = []

        async def add() -> None:
            results.extend([await channel.execute_many([("INCR", key)] * 5) for _ in range(20)])

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(add)

    assert all(row == list(range(row[0], row[0] + 5)) for row in results)
    assert max(row[-1] for row in results) == 1000


async def test_a_refused_command_of_many(server: Server, key: str) -> None:
    """Every reply is read; then the refusal is raised, or stands in its place if that is asked for."""
    async with open_channel(server.address) as channel:
        commands = [("SET", key, "x"), ("HGET", key, "f"), ("GET", key)]
        with pytest.raises(ScriptFailed, match="WRONGTYPE"):
            await channel.execute_many(commands)
        one, two, three = await channel.execute_many(commands, return_errors=True)

        assert (one, three) == (b"OK", b"x")
        assert isinstance(two, ScriptFailed)
        assert await channel.execute("GET", key) == b"x"


async def test_large_requests_and_replies(server: Server, key: str) -> None:
    """Megabytes pass in both directions at once."""
    big = b"x" * 5_000_000
    async with open_channel(server.address) as channel, anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(channel.execute, "SET", f"{key}{number}", big)
        await channel.execute("PING")
        replies = await channel.execute_many([("GET", f"{key}{number}") for number in range(4)])

    assert all(reply == big for reply in replies)


SIZE = Script("size", "#!lua\nlocal text = ARGV[1]  -- str\nreturn #text\n")


async def test_a_call_that_is_sent_at_once(server: Server) -> None:
    """It does not wait for the writer's turn; where it is more than the kernel takes, or another is on its way, order is kept all the same."""
    async with open_channel(server.address) as channel:

        async def call(number: int, size: int) -> None:
            for turn in range(40 if size < 100 else 4):
                args = [(SIZE, [], ["x" * size]), (SIZE, [], ["x" * number])]
                replies = await channel.evalsha_many(args, at_once=(number + turn) % 3 != 2)
                assert replies == [size, number]

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(call, number, (10, 4_000_000)[number % 4 == 1])


async def test_over_tls(tls_proxy: Proxy) -> None:
    """The writing and the reading task share a TLS stream without getting into each other's way."""
    address = parse_url(f"rediss://localhost:{tls_proxy.port}?ssl_cert_reqs=none")
    async with open_channel(address) as channel:

        async def call(number: int) -> None:
            for _ in range(10):
                data = str(number).encode() * 20_000
                assert await channel.execute("ECHO", data) == data

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(call, number)

        assert channel.generation == 1


# --- cancellation ---


async def test_callers_may_be_cancelled_at_any_moment(server: Server, key: str) -> None:
    """Calls are cancelled before, while and after they are written; every other call still gets its own reply."""
    async with open_channel(server.address) as channel:

        async def impatient(number: int) -> None:
            with anyio.move_on_after(0.0003 * (number % 7)):
                await channel.execute("ECHO", f"cancelled {number}")

        async def patient(number: int) -> None:
            for turn in range(5):
                expected = f"{number}.{turn}".encode()
                assert await channel.execute("ECHO", expected) == expected

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(impatient, number)
                group.start_soon(patient, number)

        assert channel.generation == 1
        await until(lambda: channel.statistics().pending == 0)
        assert channel.statistics().outbox == 0


async def test_a_call_cancelled_before_the_write_is_not_sent(server: Server, key: str) -> None:
    """In a scope that is cancelled already, nothing goes out."""
    async with open_channel(server.address) as channel:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.execute("SET", key, "x")
        assert await channel.execute("EXISTS", key) == 0


async def test_a_call_cancelled_after_the_write_is_executed(proxy: Proxy, server: Server, key: str) -> None:
    """Its reply is read and dropped, and the next caller gets its own."""
    async with open_channel(proxy.address()) as channel:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(channel.execute, "SET", key, "x")
                await until(lambda: channel.statistics().pending == 1 or channel.statistics().writes > 0)
                scope.cancel()
        assert await channel.execute("GET", key) == b"x"


async def test_a_timeout_says_what_is_known(proxy: Proxy, key: str) -> None:
    """Late after being written: unknown. Still waiting for a connection: surely not executed."""
    async with open_channel(proxy.address()) as channel:
        proxy.silent = True
        with pytest.raises(OutcomeUnknown, match=r"within 0\.05 s"):
            await channel.execute("SET", key, "x", timeout=0.05)
        proxy.close()
        await until(lambda: channel.state == "down")
        with pytest.raises(Unavailable, match=r"within 0\.05 s"):
            await channel.execute("SET", key, "y", wait=True, timeout=0.05)


# --- losing the link ---


async def test_a_lost_link_comes_back(server: Server, key: str) -> None:
    """After CLIENT KILL the channel connects again by itself; each connection is a new generation."""
    async with open_channel(server.address, name=key) as channel:
        for generation in (1, 2, 3):
            assert channel.generation == generation
            assert await kill(server, key) == 1
            await until(lambda: channel.generation > generation)  # noqa: B023 -- over before the next turn
        assert await channel.execute("PING") == b"PONG"


async def test_what_callers_learn_of_a_lost_link(proxy: Proxy, key: str) -> None:
    """Written: unknown. Not written: surely not executed. Willing to wait: executed on the next connection."""
    async with open_channel(proxy.address()) as channel:
        proxy.silent = True
        outcomes: dict[str, object] = {}

        async def call(name: str, *, wait: bool = False) -> None:
            try:
                outcomes[name] = await channel.execute("INCR", key + name, wait=wait)
            except FlowqError as error:
                outcomes[name] = type(error)

        async with anyio.create_task_group() as group:
            group.start_soon(call, "written")
            await until(lambda: any(b"written" in data for data in proxy.requests))
            proxy.close()
            await until(lambda: channel.state == "down")
            await call("down")
            group.start_soon(lambda: call("waiting", wait=True))
            await until(lambda: channel.statistics().outbox == 1)
            group.cancel_scope.cancel()

    assert outcomes == {"written": OutcomeUnknown, "down": Unavailable}


async def test_who_waits_is_served_by_the_next_connection(
    new_server: Callable[..., Server], version: str, key: str
) -> None:
    """A call with ``wait=True`` made during an outage is executed, once, when the server is back."""
    server = new_server()
    async with open_channel(server.address) as channel:
        server.process.kill()
        server.process.wait()
        await until(lambda: channel.state == "down")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: channel.execute("INCR", key, wait=True))
            await until(lambda: channel.statistics().outbox == 1)
            with running(version, folder=server.folder) as again:
                with anyio.fail_after(5):
                    await channel.wait_up()
                assert await channel.execute("INCR", key) == 2
                assert again.process.poll() is None


async def test_a_reply_cut_at_every_byte(proxy: Proxy) -> None:
    """Wherever in a reply the link breaks, nobody gets a wrong one, and the channel goes on."""
    proxy.chunk = 1
    async with open_channel(proxy.address()) as channel, anyio.create_task_group() as group:
        lost = 0
        for turn in range(15):
            await channel.wait_up()
            group.start_soon(cut_soon, proxy, 0.001 * turn)
            while channel.generation == turn + 1:
                with suppress(Unavailable):
                    try:
                        reply = await channel.execute("ECHO", f"{turn}" * 50)
                    except OutcomeUnknown:
                        lost += 1
                    else:
                        assert reply == f"{turn}".encode() * 50
                await anyio.lowlevel.checkpoint()

        assert lost > 0
        assert await channel.execute("PING", wait=True) == b"PONG"


async def cut_soon(proxy: Proxy, delay: float) -> None:
    await anyio.sleep(delay)
    proxy.cut()


async def test_a_half_open_link_is_given_up(proxy: Proxy) -> None:
    """When replies stop coming although the link stays open, it is dropped after ``reply_timeout`` and made anew."""
    async with open_channel(proxy.address(), reply_timeout=0.2) as channel:
        proxy.silent = True
        began = anyio.current_time()
        with pytest.raises(OutcomeUnknown, match=r"0\.2 s"):
            await channel.execute("PING")

        assert anyio.current_time() - began >= 0.2
        proxy.silent = False
        await channel.wait_up()
        assert await channel.execute("PING") == b"PONG"


async def test_an_idle_link_is_kept(proxy: Proxy) -> None:
    """Silence while nothing is asked is no trouble."""
    async with open_channel(proxy.address(), reply_timeout=0.05) as channel:
        await anyio.sleep(0.3)

        assert (channel.state, channel.generation) == ("up", 1)


async def test_a_blackhole_that_takes_no_more_is_given_up(new_server: Callable[..., Server]) -> None:
    """Also when the write itself is stuck in full socket buffers."""
    server = new_server()
    async with open_channel(server.address, reply_timeout=0.2) as channel:
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown):
            await channel.execute("ECHO", b"x" * 20_000_000)

        assert channel.state != "up"
        server.process.send_signal(signal.SIGCONT)


async def test_a_kill_storm(server: Server, key: str) -> None:
    """Killed again and again, no INCR is done twice, and each caller's view is right."""
    async with open_channel(server.address, name=key) as channel:
        done = unknown = 0

        async def storm() -> None:
            while True:
                await kill(server, key)
                await anyio.sleep(0.03)

        async with anyio.create_task_group() as group:
            group.start_soon(storm)
            for _ in range(300):
                try:
                    await channel.execute("INCR", key, wait=True)
                    done += 1
                except OutcomeUnknown:
                    unknown += 1
            group.cancel_scope.cancel()
        await channel.wait_up()
        total = int(await channel.execute("GET", key, wait=True))

    assert done <= total <= done + unknown
    assert done > 0


async def test_an_outage_is_logged_once(server: Server, key: str, caplog: pytest.LogCaptureFixture) -> None:
    """``redis.lost`` when it begins, ``redis.back`` with its seconds when it ends, however many attempts lie between."""
    caplog.set_level(logging.INFO, logger="flowq.redis")
    async with open_channel(server.address, name=key) as channel:
        await kill(server, key)
        await until(lambda: channel.generation == 2)

    events = [record.__dict__["event"] for record in caplog.records]
    assert events == ["redis.lost", "redis.back"]
    assert caplog.records[1].__dict__["seconds"] >= 0


# --- the first connection, and the hello of each ---


async def test_on_connect_comes_before_any_call(proxy: Proxy, server: Server, key: str) -> None:
    """The callback has the new connection to itself; calls that wait are sent after it."""
    seen: list[tuple[int, int]] = []

    async def greet(connection: Connection) -> None:
        seen.append((connection.client_id, int(await connection.execute("INCR", key))))

    async with open_channel(server.address, name=key, on_connect=greet) as channel:
        assert len(seen) == 1
        await kill(server, key)
        await until(lambda: channel.generation == 2)

        assert [count for _, count in seen] == [1, 2]
        assert seen[0][0] != seen[1][0]


async def test_an_on_connect_that_fails_is_a_connection_that_failed(server: Server) -> None:
    """A passing error in the callback makes the channel try again; its calls are not let through meanwhile."""
    attempts = 0

    async def greet(_: Connection) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Unavailable("not ready")

    async with open_channel(server.address, on_connect=greet) as channel:
        assert channel.state == "down"
        with pytest.raises(Unavailable, match="not ready"):
            await channel.execute("PING")
        with anyio.fail_after(5):
            await channel.wait_up()

        assert attempts == 3
        assert channel.generation == 1


async def test_a_first_connection_that_cannot_work_is_raised(new_server: Callable[..., Server]) -> None:
    """Wrong password, bad certificate settings, a foreign layout seen by the callback: the owner learns it at once, unwrapped."""
    server = new_server("--requirepass", "x")
    with pytest.raises(AuthenticationFailed):
        async with open_channel(server.address):
            pytest.fail("was entered")

    async def refuse(_: Connection) -> None:
        raise ConfigurationError("wrong layout")

    with pytest.raises(ConfigurationError, match="wrong layout"):
        async with open_channel(attrs.evolve(server.address, password="x"), on_connect=refuse):
            pytest.fail("was entered")


async def test_a_later_refusal_is_logged_and_tried_again(
    new_server: Callable[..., Server], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A password that changes under a running fleet does not end it: the error is logged once, and calls say what is wrong."""
    server = new_server("--requirepass", "one")
    async with open_channel(attrs.evolve(server.address, password="one"), name=key) as channel:
        await channel.execute("CONFIG", "SET", "requirepass", "two")
        with server.client(password="two") as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: isinstance(channel.why_down, AuthenticationFailed))
            await anyio.sleep(0.2)
            with pytest.raises(Unavailable, match="wrong user or password"):
                await channel.execute("PING")
            client.config_set("requirepass", "one")
        with anyio.fail_after(5):
            await channel.wait_up()

    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


async def test_a_server_that_is_away_at_first(server: Server, new_proxy: Callable[..., Proxy]) -> None:
    """A first connection that fails in a passing way does not raise: the channel is down, says why, and goes on trying."""
    proxy = new_proxy()
    address = proxy.address()
    proxy.close()
    async with open_channel(address) as channel:
        assert channel.state == "down"
        assert isinstance(channel.why_down, Unavailable)
        with pytest.raises(Unavailable, match="refused"):
            await channel.execute("PING")


async def test_a_replica_is_left(new_server: Callable[..., Server], key: str) -> None:
    """READONLY proves that nothing happened, and the link is made anew: another server may be behind the address now."""
    server = new_server()
    async with open_channel(server.address) as channel:
        await channel.execute("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ReadOnlyServer):
            await channel.execute("SET", key, "x")
        await until(lambda: channel.generation > 1)
        await channel.execute("REPLICAOF", "NO", "ONE", wait=True)

        assert await channel.execute("SET", key, "x", wait=True) == b"OK"


async def test_calls_beside_a_drop_get_their_replies(new_server: Callable[..., Server], key: str) -> None:
    """The link is left only when all that is under way has been answered."""
    server = new_server()
    async with open_channel(server.address) as channel:
        await channel.execute("REPLICAOF", "127.0.0.1", "1")
        commands = [("ECHO", 1), ("SET", key, "x"), ("ECHO", 2)]
        before, refused, after = await channel.execute_many(commands, return_errors=True)

        assert (before, after) == (b"1", b"2")
        assert isinstance(refused, ReadOnlyServer)
        await until(lambda: channel.generation > 1)


# --- the end ---


async def test_closing_leaves_nobody_waiting(proxy: Proxy, key: str) -> None:
    """When the channel's block ends, callers outside it learn so at once, and later ones too."""
    outcomes: list[type[Exception]] = []

    async def call(channel: Channel) -> None:
        try:
            await channel.execute("GET", key)
        except ServerError as error:
            outcomes.append(type(error))

    async with anyio.create_task_group() as group:
        async with open_channel(proxy.address()) as channel:
            proxy.silent = True
            group.start_soon(call, channel)
            await until(lambda: channel.statistics().pending == 1)
        with pytest.raises(Unavailable, match="closed"):
            await channel.execute("PING", wait=True)
        with pytest.raises(Unavailable, match="closed"):
            await channel.wait_up()

    assert outcomes == [OutcomeUnknown]
    assert "closed" in repr(channel)


async def test_an_error_in_the_block_comes_out_as_itself(server: Server) -> None:
    """The channel's own nursery does not show in the caller's traceback type."""
    with pytest.raises(KeyError):
        async with open_channel(server.address):
            raise KeyError("mine")


async def test_started_in_a_nursery(server: Server) -> None:
    """An owner may start ``run`` in a nursery of its own; it has connected when ``start`` returns."""
    channel = Channel(server.address)
    assert channel.state == "connecting"
    with pytest.raises(Unavailable, match="not connected"):
        await channel.execute("PING")
    async with anyio.create_task_group() as group:
        await group.start(channel.run)

        assert await channel.execute("PING") == b"PONG"
        group.cancel_scope.cancel()


async def test_a_block_that_is_cancelled_ends_promptly(proxy: Proxy) -> None:
    """Also while the server says nothing."""
    async with anyio.create_task_group() as group:
        with anyio.fail_after(1):
            with anyio.move_on_after(0.05):
                async with open_channel(proxy.address()) as channel:
                    proxy.silent = True
                    group.start_soon(ignore_loss, channel)
                    await channel.execute("PING")


async def ignore_loss(channel: Channel) -> None:
    with suppress(ServerError):
        await channel.execute("PING")


async def test_nothing_is_sent_twice(proxy: Proxy, key: str) -> None:
    """When replies are lost, the number of requests on the wire is the number of calls."""
    marker = Script("once", "#!lua\nlocal k = KEYS[1]\nreturn redis.call('INCR', k)\n")
    async with open_channel(proxy.address()) as channel:
        await channel.evalsha(marker, [key], [])
        before = b"".join(proxy.requests).count(b"EVALSHA")
        for _ in range(5):
            await channel.wait_up()
            proxy.silent = True
            with pytest.raises(OutcomeUnknown):
                await channel.evalsha(marker, [key], [], timeout=0.05)
            proxy.cut()
            proxy.silent = False
            await until(lambda: channel.state != "up")

        assert b"".join(proxy.requests).count(b"EVALSHA") - before == 5
        assert await channel.execute("GET", key, wait=True) == b"6"
