"""Connecting and logging in, and what each way of failing is called."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import attrs
import pytest

from flowq import (
    AuthenticationFailed,
    BadURL,
    ConfigurationError,
    OutcomeUnknown,
    ReadOnlyServer,
    ScriptFailed,
    ServerFull,
    ServerTooOld,
    Unavailable,
)
from flowq.backends.redis.connection import connect, reconnect_delay, running_beside
from flowq.backends.redis.replies import NoGroup, NoScript
from flowq.backends.redis.url import Address, Tls, parse_url

from .conftest import Proxy, Server, until

SECRET = "s3cr3t-s3cr3t"


def secured(address: Address, username: str | None = None, password: str = SECRET) -> Address:
    return attrs.evolve(address, username=username, password=password)


# --- the ways in ---


async def test_unix_socket(server: Server) -> None:
    """Over a unix socket: logged in with one HELLO, and the server's facts are known."""
    connection = await connect(server.address, name="flowq test")

    assert await connection.execute("PING") == b"PONG"
    assert connection.client_id == await connection.execute("CLIENT", "ID")
    assert await connection.execute("CLIENT", "GETNAME") == b"flowq-test"
    assert connection.server_version >= (6, 2, 0)
    assert connection.role == "master"
    await connection.aclose()


async def test_tcp(server: Server) -> None:
    """Over TCP, without delay for small writes."""
    connection = await connect(parse_url(f"redis://localhost:{server.port}/3"), name="t")

    assert await connection.execute("PING") == b"PONG"
    assert b"db=3" in await connection.execute("CLIENT", "LIST", "ID", connection.client_id)
    await connection.aclose()


async def test_tls(tls_proxy: Proxy, certificate: Path) -> None:
    """Over TLS, with the certificate checked against a CA that the URL names; large values pass too."""
    address = parse_url(f"rediss://localhost:{tls_proxy.port}?ssl_ca_certs={certificate}")
    connection = await connect(address, name="t")
    big = b"x" * 3_000_000

    assert await connection.execute("ECHO", big) == big
    await connection.aclose()


async def test_resp3_is_spoken_when_asked_for(server: Server) -> None:
    """With ``protocol=3`` maps come as maps; with the default a reply has RESP2's shape, as in the synchronous client."""
    resp3 = await connect(server.address, name="t", protocol=3)
    resp2 = await connect(server.address, name="t")

    assert await resp3.execute("CONFIG", "GET", "port") == {b"port": str(server.port).encode()}
    assert await resp2.execute("CONFIG", "GET", "port") == [b"port", str(server.port).encode()]
    assert (resp3.protocol, resp2.protocol) == (3, 2)
    await resp3.aclose()
    await resp2.aclose()


async def test_password_and_user(new_server: Callable[..., Server]) -> None:
    """A password alone is the default user's; a user has its own."""
    server = new_server("--requirepass", SECRET, *f"--user bob on >{SECRET} ~* +@all".split())
    for username, expected in ((None, b"default"), ("bob", b"bob")):
        connection = await connect(secured(server.address, username), name="t")

        assert await connection.execute("ACL", "WHOAMI") == expected
        await connection.aclose()


async def test_login_without_hello(new_server: Callable[..., Server]) -> None:
    """Where HELLO is refused, AUTH, CLIENT SETNAME and SELECT do the same, and RESP2 is spoken."""
    server = new_server("--requirepass", SECRET, "--rename-command", "HELLO", "")
    address = attrs.evolve(secured(server.address), db=2)
    connection = await connect(address, name="old way", protocol=3)

    assert connection.protocol == 2
    assert connection.client_id == await connection.execute("CLIENT", "ID")
    assert connection.server_version >= (6, 2, 0)
    assert await connection.execute("CLIENT", "GETNAME") == b"old-way"
    assert b"db=2" in await connection.execute("CLIENT", "LIST", "ID", connection.client_id)
    await connection.aclose()


async def test_a_refused_hello_does_not_repeat_the_password(new_server: Callable[..., Server]) -> None:
    """Redis repeats the arguments of an unknown command, HELLO's password among them; our errors do not."""
    server = new_server("--rename-command", "HELLO", "")
    with pytest.raises(ScriptFailed) as caught:
        await connect(secured(server.address), name="t")

    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


# --- the ways to fail ---


async def test_wrong_password(new_server: Callable[..., Server]) -> None:
    """A wrong password, a wrong user or none at all is AuthenticationFailed, and none is repeated."""
    server = new_server("--requirepass", "right")
    for address in (secured(server.address), secured(server.address, "nobody"), server.address):
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(address, name="t")

        assert SECRET not in str(caught.value)
        assert str(server.socket) in str(caught.value)


async def test_nobody_listens(tmp_path: Path) -> None:
    """A closed port, a missing socket and an unknown host are Unavailable; the message says which and why."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    for url, why in (
        (f"redis://127.0.0.1:{closed}", "refused"),
        (f"redis://localhost:{closed}", "refused"),
        (f"unix://{tmp_path}/none.sock", "No such file"),
        ("redis://no-such-host.invalid", "no-such-host.invalid"),
    ):
        with pytest.raises(Unavailable, match=why):
            await connect(parse_url(url), name="t")


@contextmanager
def answering(*answers: bytes) -> Iterator[Address]:
    """A server that says the same to everybody and then falls silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    links: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            links.append(link)
            for answer in answers:
                link.recv(65536)
                link.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Address(host="127.0.0.1", port=listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for link in links:
            link.close()


async def test_a_server_that_says_nothing() -> None:
    """The connect timeout covers the whole login, not only the TCP handshake."""
    with answering() as address, pytest.raises(Unavailable, match=r"within 0\.2 s"):
        await connect(address, name="t", connect_timeout=0.2)


async def test_a_server_that_speaks_something_else() -> None:
    """What is no Redis reply is reported as that, and as nothing executed."""
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(Unavailable, match="no Redis reply"),
    ):
        await connect(address, name="t")


@pytest.mark.parametrize(
    ("said", "taken"), [("6.0.16", False), ("6.2.0", True), ("7.2", True), ("255.255.255", True)]
)
async def test_a_server_that_is_too_old(said: str, taken: bool) -> None:
    """Below 6.2 it is ServerTooOld; the message says what it found."""
    items = ["server", "redis", "version", said, "role", "master"]
    hello = "".join(f"${len(item)}\r\n{item}\r\n" for item in items)
    with answering(f"*10\r\n{hello}$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:7\r\n".encode()) as address:
        if taken:
            connection = await connect(address, name="t")
            await connection.aclose()
        else:
            with pytest.raises(ServerTooOld, match=r"6\.0\.16"):
                await connect(address, name="t")


async def test_an_untrusted_certificate(tls_proxy: Proxy) -> None:
    """Without its CA a server's certificate is refused; the message says how to name the CA. ``ssl_cert_reqs=none`` takes it."""
    with pytest.raises(ConfigurationError, match="ssl_ca_certs"):
        await connect(parse_url(f"rediss://localhost:{tls_proxy.port}"), name="t")

    connection = await connect(parse_url(f"rediss://localhost:{tls_proxy.port}?ssl_cert_reqs=none"), name="t")
    await connection.aclose()


async def test_a_certificate_of_another_host(tls_proxy: Proxy, certificate: Path) -> None:
    """A trusted certificate for another name is refused."""
    with pytest.raises(ConfigurationError, match="not trusted"):
        await connect(parse_url(f"rediss://127.0.0.1:{tls_proxy.port}?ssl_ca_certs={certificate}"), name="t")


async def test_tls_to_a_plain_port(server: Server) -> None:
    """``rediss://`` to a port without TLS fails at once or at the deadline, and never waits for ever."""
    address = Address(host="127.0.0.1", port=server.port, tls=Tls(verify="none"), connect_timeout=1.0)
    with pytest.raises((ConfigurationError, Unavailable)):
        await connect(address, name="t")


async def test_plain_to_a_tls_port(tls_proxy: Proxy) -> None:
    """``redis://`` to a TLS port: the message suggests ``rediss://``."""
    with pytest.raises(Unavailable, match="rediss://"):
        await connect(tls_proxy.address(), name="t")


async def test_a_database_that_is_not_there(server: Server) -> None:
    """A database number over the server's range is a fault of the URL."""
    with pytest.raises(BadURL, match="the database that the URL names is not there"):
        await connect(attrs.evolve(server.address, db=99), name="t")


# --- one link's life ---


async def test_error_replies_have_their_classes(new_server: Callable[..., Server]) -> None:
    """Each error reply, also from inside a script, is the error that the table says, on old servers and new."""
    server = new_server()
    connection = await connect(server.address, name="t")
    write = "return redis.call('SET', 'k', 'v')"
    cases: list[tuple[type[Exception], tuple[str | int, ...]]] = [
        (NoScript, ("EVALSHA", "0" * 40, 0)),
        (NoGroup, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")),
        (NoGroup, ("EVAL", "return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>')", 0)),
        (ScriptFailed, ("EVAL", "return nil + 1", 0)),
        (ScriptFailed, ("NO-SUCH-COMMAND",)),
    ]
    for expected, command in cases:
        with pytest.raises(expected):
            await connection.execute(*command)
    for setting, value, back, expected in (
        ("maxmemory", "1", "0", ServerFull),
        ("min-replicas-to-write", "1", "0", Unavailable),
    ):
        await connection.execute("CONFIG", "SET", setting, value)
        for command in (("SET", "k", "v"), ("EVAL", write, "0")):
            with pytest.raises(expected):
                await connection.execute(*command)
        await connection.execute("CONFIG", "SET", setting, back)
    await connection.execute("REPLICAOF", "127.0.0.1", "1")
    for command in (("SET", "k", "v"), ("EVAL", write, "0")):
        with pytest.raises(ReadOnlyServer):
            await connection.execute(*command)
    await connection.aclose()


async def test_what_the_acl_forbids_is_named(new_server: Callable[..., Server]) -> None:
    """A forbidden command or key is AuthenticationFailed, also inside a script; the message names it."""
    server = new_server(*f"--user poor on >{SECRET} ~a* +hello +eval +get".split())
    connection = await connect(secured(server.address, "poor"), name="t")
    for command, names in (
        (("SET", "a", "v"), "set"),
        (("GET", "b"), "key"),
        (("EVAL", "return redis.call('SET', 'a', 'v')", 0), "command"),
        (("EVAL", "return redis.call('GET', 'b')", 0), "key"),
    ):
        with pytest.raises(AuthenticationFailed, match=names):
            await connection.execute(*command)
    await connection.aclose()


async def test_replies_survive_any_cutting(proxy: Proxy) -> None:
    """Replies that arrive a byte at a time are put together."""
    proxy.chunk = 1
    connection = await connect(proxy.address(), name="t")

    assert await connection.execute("ECHO", b"a\r\n$5\r\nb") == b"a\r\n$5\r\nb"
    assert await connection.raw_many([["PING"], ["ECHO", 1], ["ECHO", 1.5]]) == [b"PONG", b"1", b"1.5"]
    await connection.aclose()


async def test_a_link_that_breaks(proxy: Proxy) -> None:
    """When the link breaks while a reply is awaited, the outcome is unknown."""
    connection = await connect(proxy.address(), name="t")
    proxy.silent = True
    async with anyio.create_task_group() as group:

        async def cut_when_sent() -> None:
            await until(lambda: b"INCR" in b"".join(proxy.requests))
            proxy.cut()

        group.start_soon(cut_when_sent)
        with pytest.raises(OutcomeUnknown):
            await connection.execute("INCR", "n")


async def test_a_reply_that_is_late(proxy: Proxy) -> None:
    """After a timeout the connection is closed: the late reply could be taken for another's."""
    connection = await connect(proxy.address(), name="t")
    proxy.silent = True
    with pytest.raises(OutcomeUnknown, match=r"within 0\.1 s"):
        await connection.execute("PING", timeout=0.1)
    proxy.silent = False

    with pytest.raises(OutcomeUnknown):
        await connection.execute("PING")


async def test_a_cancelled_call_closes_the_link(proxy: Proxy) -> None:
    """So does a cancellation."""
    connection = await connect(proxy.address(), name="t")
    proxy.silent = True
    with anyio.move_on_after(0.1):
        await connection.execute("PING")
    proxy.silent = False

    with pytest.raises(OutcomeUnknown):
        await connection.execute("PING")


async def test_closing_never_waits_or_raises(proxy: Proxy) -> None:
    """``aclose`` returns at once, inside a cancelled scope, twice, and on a link that is broken."""
    connection = await connect(proxy.address(), name="t")
    proxy.cut()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await connection.aclose()
        await connection.aclose()

    assert SECRET not in repr(connection)


async def test_no_repr_shows_the_password(new_server: Callable[..., Server]) -> None:
    """Connections show whom they talk to, without the password."""
    server = new_server("--requirepass", SECRET)
    connection = await connect(secured(server.address), name="t")

    assert SECRET not in repr(connection)
    assert "***" in repr(connection)
    await connection.aclose()


async def test_login_may_be_cancelled(proxy: Proxy) -> None:
    """Cancelled while logging in, nothing is left open."""
    proxy.silent = True
    with anyio.move_on_after(0.1) as scope:
        await connect(proxy.address(), name="t")

    assert scope.cancelled_caught


def test_the_backoff_is_bounded_and_uneven() -> None:
    """0.05 s doubled up to 1 s, of which at least half is waited, however often it failed."""
    for failures in (0, 1, 5, 6, 50, 5000):
        longest = min(1.0, 0.05 * 2 ** min(failures, 10))
        drawn = {reconnect_delay(failures) for _ in range(50)}

        assert all(longest / 2 <= delay <= longest for delay in drawn)
        assert len(drawn) > 1


async def test_an_error_beside_a_running_part_comes_out_as_itself() -> None:
    """The block's own error is not wrapped in an exception group; two at once are."""

    async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            if failing:
                raise ValueError("the part's")

    failing = False
    with pytest.raises(KeyError):
        async with running_beside(run):
            raise KeyError("the block's")
    failing = True
    with pytest.raises(ExceptionGroup):
        async with running_beside(run):
            raise KeyError("the block's")
