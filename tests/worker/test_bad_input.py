"""Bad input, end to end: a message that names the cause and the way out; jobs concerned end as dead letters; nothing else stops.

The messages stand in docs/errors.md as they are asserted here.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import anyio
import pytest
import redis

import flowq
from flowq import JobStatus
from flowq._model import LanePolicy
from flowq.backends.protocol import MemberFacts, Standing
from flowq.backends.redis.keys import app_prefix
from flowq.backends.redis.open import open_redis
from flowq.cli import main as command_line
from tests.conftest import RedisServer
from tests.worker.conftest import Shop, until


def with_add(shop: Shop, **options: Any) -> flowq.App[Any]:
    """The app of most of these tests."""
    app = shop.app(**options)
    app.task(name="add", retries=0)(_add)
    return app


async def works(app: flowq.App[Any]) -> bool:
    """Does an ordinary job run?"""
    job = await app.enqueue("add", 1, 2)
    return bool(await job.result(timeout=5) == 3)


def letters(client: Any, shop: Shop) -> list[dict[Any, Any]]:
    return [fields for _, fields in client.xrange(shop.key("dead"))]


def bytes_client(server: RedisServer) -> Any:
    """A client that decodes nothing."""
    return closing(redis.Redis(unix_socket_path=str(server.socket)))


# --- what a producer says --------------------------------------------------------------------------------------------------


async def test_an_unknown_task_name(shop: Shop, redis_server: RedisServer) -> None:
    """Refused before anything is sent; the message names the way to submit to code that is elsewhere."""
    app = with_add(shop)
    async with app:
        with pytest.raises(
            flowq.UnknownTask, match=r"no task 'nope' is registered here \(app\.ref\('nope'\) submits"
        ):
            await app.enqueue("nope")
    with redis_server.client() as client:
        assert not client.exists(shop.key("s:nope"))


async def test_arguments_that_do_not_fit(shop: Shop, redis_server: RedisServer) -> None:
    """Refused before anything is sent, by task and parameter; it is a TypeError, too."""
    app = with_add(shop)
    async with app:
        for args, said in {
            (1,): "task 'add': missing a required argument: 'b'",
            (1, "x"): "task 'add', parameter 'b': Expected `int`, got `str`",
            (1, 2, 3): "task 'add': too many positional arguments",
            (1, object()): "task 'add', parameter 'b': Expected `int`, got `object`",
        }.items():
            with pytest.raises(flowq.InvalidArguments, match=re.escape(said)) as caught:
                await app.enqueue("add", *args)
            assert isinstance(caught.value, TypeError)
    with redis_server.client() as client:
        assert not client.exists(shop.key("s:add"))


async def test_a_job_that_is_too_large(shop: Shop) -> None:
    """Refused before anything is sent: how large, how large it may be, and what to do instead."""
    app = shop.app(max_payload=1000)

    @app.task
    async def store(text: str) -> int:
        return len(text)

    async with app:
        with pytest.raises(
            flowq.PayloadTooLarge,
            match=r"task 'store': the encoded job has 20\d\d bytes, the limit is 1000: store the data elsewhere and pass a "
            r"reference, or raise App\(max_payload=…\)",
        ):
            await store.enqueue("x" * 2000)


def test_two_tasks_with_one_name() -> None:
    """An error where the second one is defined, with the way out."""
    app = flowq.App("two")

    def work() -> None: ...

    app.task(work)
    with pytest.raises(
        flowq.DuplicateTask, match="two tasks are called 'work': give one of them another name="
    ):
        app.task(work)


# --- what becomes of a job -------------------------------------------------------------------------------------------------


@pytest.mark.leaves_jobs("nobody serves the task")
async def test_a_type_that_nobody_serves(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Its jobs wait, workers of other types go on, and ``flowq status`` says so."""
    app = with_add(shop)
    await shop.start(app)
    async with app:
        job = await app.ref("elsewhere").enqueue(1)
        assert await works(app)
        assert await job.status() is JobStatus.READY
        code = await anyio.to_thread.run_sync(command_line, ["status", "-n", shop.name, "-u", shop.url])
    said = capsys.readouterr().out
    assert code == 0
    assert "elsewhere" in said
    assert re.search(r"no live worker serves|nobody serves|unserved", said), said


UNDECODABLE = {
    b"garbage": ({b"d": b"garbage"}, "not a job of flowq: JSON is malformed"),
    b"\xff\xfe\x00": ({b"d": b"\xff\xfe\x00"}, "not a job of flowq: JSON is malformed"),
    b"": ({b"d": b""}, "not a job of flowq: Input data was truncated"),
    b"[1]": ({b"d": b"[1]"}, "not a job of flowq: Expected `object`, got `array`"),
    b'{"v":0,"task":"add"}': ({b"d": b'{"v":0,"task":"add"}'}, "format version 0 has never existed"),
    b'{"v":1,"args":7}': ({b"d": b'{"v":1,"args":7}'}, "not a job of format 1: Expected `array`, got `int`"),
    b"a 1 b 2": ({b"a": b"1", b"b": b"2"}, "not a job of flowq: JSON is malformed"),
}
"""Raw bytes as kept, the fields of the entry, how the reason begins."""


async def test_entries_that_are_no_jobs(
    shop: Shop, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """XADD by hand, without our field too: each is a dead letter of kind ``undecodable`` with its raw bytes, whether it was read
    fresh or taken over; an entry with further fields beside ours is a job. Nothing else stops.
    """
    app = with_add(shop)
    good = {b"d": b'{"v":1,"task":"add","args":[1,2]}'}
    with bytes_client(redis_server) as raw:
        async with app:
            worker = await shop.start(app)
            for fields, _ in UNDECODABLE.values():
                raw.xadd(shop.key("s:add"), fields)
            first = raw.xadd(shop.key("s:add"), {b"x": b"1", **good})
            assert await works(app)
            assert await app.job(f"add:{first.decode()}").result(timeout=5) == 3
            await until(lambda: raw.xlen(shop.key("dead")) == 7, "the letters")
            oldest = letters(raw, shop)[0][b"id"].decode()
            with pytest.raises(
                flowq.JobFailed, match=r"failed \(undecodable\): Undecodable: not a job of flowq"
            ):
                await app.job(oldest).result(timeout=5)
            await worker.drain()

            # the same entries in the hands of a worker that has died
            for fields, _ in UNDECODABLE.values():
                raw.xadd(shop.key("s:add"), fields)
            second = raw.xadd(shop.key("s:add"), {b"x": b"1", **good})
            raw.xreadgroup("flowq", "-", {shop.key("s:add"): ">"}, count=100)
            raw.sadd(shop.key("orphans"), "add")
            await shop.start(app)
            assert await app.job(f"add:{second.decode()}").result(timeout=5) == 3
            assert await works(app)
        found = letters(raw, shop)
    assert [letter[b"kind"] for letter in found] == [b"undecodable"] * 14
    for letter in found:
        _, reason = UNDECODABLE[letter[b"d"]]
        assert letter[b"reason"].decode().startswith(reason)
        assert letter[b"lane"] == b"add"
    assert [letter[b"d"] for letter in found] == [*UNDECODABLE] * 2
    code = await anyio.to_thread.run_sync(command_line, ["dead", "ls", "-n", shop.name, "-u", shop.url])
    assert (code, capsys.readouterr().out.count("undecodable")) == (0, 14)
    for letter in found[:7]:
        words = ["dead", "show", letter[b"id"].decode(), "-n", shop.name, "-u", shop.url]
        assert await anyio.to_thread.run_sync(command_line, words) == 0
    assert "garbage" in capsys.readouterr().out


@pytest.mark.leaves_jobs("they wait for a worker")
async def test_entries_that_are_no_jobs_can_be_looked_at(
    anyio_backend: object, shop: Shop, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """``flowq ls``, ``show`` and ``status`` work on a lane full of garbage."""
    async with with_add(shop) as app:
        await app.enqueue("add", 1, 2)
        with bytes_client(redis_server) as raw:
            entries = [raw.xadd(shop.key("s:add"), fields) for fields, _ in UNDECODABLE.values()]
    at = ["-n", shop.name, "-u", shop.url]
    for words in (["ls", "add"], ["status"], *(["show", f"add:{entry.decode()}"] for entry in entries)):
        assert await anyio.to_thread.run_sync(command_line, [*words, *at]) == 0, (words, capsys.readouterr())


async def test_arguments_that_do_not_fit_the_workers_code(
    shop: Shop, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitted by name, unchecked: tried again for the skew window, uncounted, then a dead letter that names the parameter."""
    monkeypatch.setenv("FLOWQ_SKEW_WINDOW", "0.5")
    app = with_add(shop)
    await shop.start(app)
    async with app:
        job = await app.ref("add").options(key="k").enqueue(1, 2)
        assert await job.result(timeout=5) == 3
        other = flowq.App(shop.name, shop.url)
        async with other:
            job = await other.enqueue("add", 1, "two")
            await until(lambda: shop.said("skew"), "it is tried again")
            assert "parameter 'b': Expected `int`, got `str`" in shop.said("skew")[0].getMessage()
            # running: it is said before the outcome has been written
            assert await job.status() in (JobStatus.RUNNING, JobStatus.DELAYED, JobStatus.READY)
            with pytest.raises(
                flowq.JobFailed,
                match=r"failed \(skew\): Skew: task 'add': parameter 'b': Expected `int`, got `str`",
            ):
                await job.result(timeout=10)
        assert await works(app)
    with redis_server.client() as client:
        (letter,) = letters(client, shop)
        assert (letter["kind"], '"attempts":1' in letter["detail"]) == ("skew", True)


async def test_unknown_fields_of_an_envelope_survive_a_retry(shop: Shop, redis_server: RedisServer) -> None:
    """A field that this version does not know is still there when a newer worker takes the job over; so is its place in a letter."""
    app = shop.app()

    @app.task(retries=1, backoff=flowq.Backoff(base=0.05))
    async def fail() -> None:
        raise OSError("no")

    envelope = '{"v":1,"task":"fail","args":[],"colour":{"deep":[1,2]},"headers":{"trace":"t1"}}'
    async with app:
        with redis_server.client() as client:
            entry = client.xadd(shop.key("s:fail"), {"d": envelope})
            await shop.start(app)
            with pytest.raises(flowq.JobFailed):
                await app.job(f"fail:{entry}").result(timeout=5)
            (letter,) = letters(client, shop)
    assert '"colour":{"deep":[1,2]}' in letter["d"]
    assert '"trace":"t1"' in letter["d"]
    assert '"attempt":2' in letter["d"]


async def test_a_newer_format_is_left_for_a_newer_worker(shop: Shop, redis_server: RedisServer) -> None:
    """A job in a format that this worker does not know comes back later, untouched and uncounted; it is no dead letter."""
    app = with_add(shop)
    async with app:
        with redis_server.client() as client:
            entry = client.xadd(shop.key("s:add"), {"d": '{"v":2,"task":"add","novel":true}'})
            worker = await shop.start(app)
            await until(lambda: client.zcard(shop.key("delayed")), "it waits")
            job = app.job(f"add:{entry}")
            assert await job.status() is JobStatus.DELAYED
            assert await works(app)
            row = client.hget(shop.key("delayed:d"), job.id)
            assert '"v":2' in row
            assert '"novel":true' in row
            assert letters(client, shop) == []
            assert await job.cancel() is flowq.CancelAnswer.REMOVED
        await worker.drain()


async def test_a_result_that_cannot_be_stored(shop: Shop, redis_server: RedisServer) -> None:
    """Not serialisable, or too large: the body has run, so it is not run again; a dead letter says what to return instead."""
    app = with_add(shop, max_payload=1000)
    runs: list[str] = []

    @app.task
    async def odd() -> Any:
        runs.append("odd")
        return object()

    @app.task
    async def large() -> str:
        runs.append("large")
        return "x" * 2000

    await shop.start(app)
    async with app:
        for task, said in {
            odd: r"task 'odd' returned a value of type object that cannot be stored: .*Return something JSON can hold, or set "
            r"results=False",
            large: r"task 'large' returned 2002 bytes, the limit is 1000: store the data elsewhere and return a reference, or set "
            r"results=False",
        }.items():
            with pytest.raises(flowq.JobFailed, match=said):
                await (await task.enqueue()).result(timeout=5)
        assert await works(app)
    assert runs == ["odd", "large"]
    with redis_server.client() as client:
        assert [letter["kind"] for letter in letters(client, shop)] == ["error", "error"]


# --- the server ------------------------------------------------------------------------------------------------------------


SECRET = "s3cret"
"""The password in each URL."""


async def both_say(url: str | None, error: type[flowq.FlowqError], said: str) -> None:
    """Both kinds of producer and a worker refuse to start with that URL, each with this message, and without the password in it."""
    for use in (_enqueue, _enqueue_without_a_loop, _run):
        app: flowq.App[Any] = flowq.App("bad", url, enqueue_timeout=0.3)
        app.task(name="add")(_add)
        with anyio.fail_after(10), pytest.raises(error, match=said) as caught:
            await use(app)
        cause: BaseException | None = caught.value
        while cause is not None:
            assert SECRET not in str(cause)
            cause = cause.__cause__


async def _add(a: int, b: int) -> int:
    return a + b


async def _enqueue(app: flowq.App[Any]) -> None:
    async with app:
        await app.enqueue("add", 1, 2)


async def _enqueue_without_a_loop(app: flowq.App[Any]) -> None:
    def enqueue() -> None:
        with app.sync() as producer:
            producer.enqueue(app.ref("add").bind(1, 2))

    await anyio.to_thread.run_sync(enqueue)


async def _run(app: flowq.App[Any]) -> None:
    await flowq.run(app, start_timeout=0.5)


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        (None, flowq.NoServer, "no server was named: set FLOWQ_URL"),
        ("http://h", flowq.BadURL, r"begins with http://; flowq takes redis://"),
        ("localhost:6379", flowq.BadURL, "begins with no scheme; flowq takes redis://"),
        ("redis://h:port/0", flowq.BadURL, "the port of the Redis URL is no number from 1 to 65535"),
        ("redis://h/zero", flowq.BadURL, "the database of the Redis URL is no number"),
        ("redis://h/0?nope=1", flowq.BadURL, "the option 'nope' of the Redis URL is not known; known are db"),
        ("redis://:s3cret#@h/0", flowq.BadURL, "has a # in it: in a password or path write %23"),
        ("redis://u:s3cret/@h/0", flowq.BadURL, "has a / before its @: in a password write %2F"),
        ("unix://relative", flowq.BadURL, "a unix:// URL has an absolute path"),
    ],
)
async def test_a_bad_url(
    anyio_backend: object,
    url: str | None,
    error: type[flowq.FlowqError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Named by the part at fault, before anything connects; a password is not in the message."""
    monkeypatch.delenv("FLOWQ_URL", raising=False)
    await both_say(url, error, said)


async def test_no_server(anyio_backend: object) -> None:
    """Nobody listens: after the time that was asked for, with the address and the cause; surely nothing was stored."""
    stored = r"nothing was stored: the server could not be reached for 0\.3 s \(enqueue_timeout\): cannot reach redis://"
    for use, said in (
        (_enqueue, stored),
        (_enqueue_without_a_loop, stored),
        (
            _run,
            r"no server answered within start_timeout=0\.5 s: is it running, and does FLOWQ_URL .* name it\?",
        ),
    ):
        app: flowq.App[Any] = flowq.App("bad", "redis://:s3cret@127.0.0.1:1/0", enqueue_timeout=0.3)
        app.task(name="add")(_add)
        with anyio.fail_after(10), pytest.raises(flowq.Unavailable, match=said) as caught:
            await use(app)
        assert "redis://:***@127.0.0.1:1/0: " in str(caught.value)
        assert "Connection refused" in str(caught.value)


async def test_tls_to_a_port_that_speaks_none(anyio_backend: object) -> None:
    """A server without TLS waits for the rest of what it takes for a command: the URL that would do is named."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rediss://127.0.0.1:{silent.getsockname()[1]}/0?socket_connect_timeout=0.3"
        for use in (_enqueue, _enqueue_without_a_loop):
            app: flowq.App[Any] = flowq.App("bad", url, enqueue_timeout=0.5)
            app.task(name="add")(_add)
            with (
                anyio.fail_after(10),
                pytest.raises(flowq.Unavailable, match="if it speaks no TLS, begin the URL with redis://"),
            ):
                await use(app)


async def test_wrong_password(anyio_backend: object, new_redis: Callable[..., RedisServer]) -> None:
    """At once, not after a timeout; and what the URL lacks."""
    server = new_redis("--requirepass", "right")
    await both_say(
        f"unix://:s3cret@{server.socket}", flowq.AuthenticationFailed, "wrong user or password in the URL"
    )
    await both_say(
        f"unix://{server.socket}", flowq.AuthenticationFailed, "Redis wants a password: put it into the URL"
    )


async def test_a_database_that_is_not_there(
    anyio_backend: object, new_redis: Callable[..., RedisServer]
) -> None:
    """It is the URL that is wrong, not flowq."""
    url = f"unix://{new_redis().socket}?db=99"
    await both_say(
        url, flowq.BadURL, "the database that the URL names is not there: redis://host:port/0 always is"
    )


async def test_an_acl_that_forbids_too_much(
    anyio_backend: object, new_redis: Callable[..., RedisServer]
) -> None:
    """The message says that it is the ACL."""
    server = new_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">s3cret", "~*", "&*", "+@all", "-evalsha")
    said = r"the ACL of this user forbids a command or key that flowq needs .*evalsha"
    await both_say(f"unix://poor:s3cret@{server.socket}", flowq.AuthenticationFailed, said)


async def test_a_read_only_replica(anyio_backend: object, new_redis: Callable[..., RedisServer]) -> None:
    """At once: the URL should name the primary."""
    server = new_redis()
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)
    await both_say(
        server.url, flowq.ReadOnlyServer, "a read-only replica answered: point the URL at the primary"
    )


@pytest.fixture(params=["knows HELLO", "does not know HELLO"])
def old_redis(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of what looks like a Redis 5."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(link: socket.socket) -> None:
            with link:
                while data := link.recv(4096):
                    link.sendall(old_answer(data, knows_hello=request.param == "knows HELLO"))

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(link,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def old_answer(data: bytes, *, knows_hello: bool) -> bytes:
    if b"HELLO" in data:
        if not knows_hello:
            return b"-ERR unknown command `HELLO`, with args beginning with: `2`, `AUTH`, `s3cret`, \r\n"
        words = (b"server", b"redis", b"version", b"5.0.14", b"proto", 2, b"id", 3, b"role", b"master")
        parts = (b":%d\r\n" % w if isinstance(w, int) else b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        return b"*%d\r\n" % len(words) + b"".join(parts)
    if b"INFO" in data:
        info = b"# Server\r\nredis_version:5.0.14\r\n"
        bulk = b"$%d\r\n%s\r\n" % (len(info), info)
        return b":7\r\n" + bulk + b"+OK\r\n" if b"SETNAME" in data else bulk
    if b"HGET" in data:
        return b"$-1\r\n"
    if b"AUTH" in data and b"s3cret" not in data:
        return b"-ERR invalid password\r\n"
    return b"+OK\r\n"


async def test_a_redis_that_is_too_old(anyio_backend: object, old_redis: int) -> None:
    """Its version, the one that is needed, and what to do."""
    said = r"is Redis 5\.0\.14; flowq needs 6\.2 or newer \(or Valkey\): upgrade the server"
    await both_say(f"redis://:s3cret@127.0.0.1:{old_redis}/0", flowq.ServerTooOld, said)


@pytest.mark.parametrize("old_redis", ["does not know HELLO"], indirect=True)
async def test_a_wrong_password_on_an_old_redis(anyio_backend: object, old_redis: int) -> None:
    """Redis 5 has other words for it, and no HELLO that would carry it: it is not taken for a defect of flowq."""
    url = f"redis://:wrong@127.0.0.1:{old_redis}/0"
    await both_say(url, flowq.AuthenticationFailed, "wrong user or password in the URL .*invalid password")


async def test_a_foreign_value_in_a_key_of_ours(
    own_shop: Shop, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Producer and worker refuse with a message that leads to ``flowq doctor``, which names the key."""
    app = with_add(own_shop)
    client.set(own_shop.key("s:add"), "mine")
    said = "a foreign value lies in one of the app's keys: `flowq doctor` names it"
    for use in (_enqueue, _run):
        with pytest.raises(flowq.ScriptFailed, match=said):
            await use(app)
    words = ["doctor", "-n", own_shop.name, "-u", own_shop.url]
    assert await anyio.to_thread.run_sync(command_line, words) == 1
    assert "a foreign value lies in the key flowq:{own}:s:add: rename or delete it" in capsys.readouterr().err


async def test_another_lease_ttl_in_the_fleet(shop: Shop) -> None:
    """Refused at the start, with both values; the fleet goes on."""
    app = with_add(shop)
    await shop.start(app)
    with pytest.raises(
        flowq.ConfigurationError,
        match=r"this fleet runs with lease_ttl=1 s and this worker was given 3 s; give it the fleet's value, or change the fleet's "
        "first: `flowq limits --lease-ttl 3`",
    ):
        await flowq.run(with_add(shop, lease_ttl=3.0))
    async with app:
        assert await works(app)


async def test_a_fleet_that_is_being_changed_to_our_lease_ttl(shop: Shop) -> None:
    """Waited for, ``start_timeout`` long; the error says what is missing. With the old value a worker starts at once."""
    place = open_redis(shop.url, prefix=app_prefix(shop.name), name="hand")
    async with place as backend:
        facts = MemberFacts("here", 1, "0", 1, "trio")
        silent = await backend.fleet.join(facts, {"add": LanePolicy(None, 3, False, 1000)}, ttl=1.0)
        await backend.fleet.change_ttl(3.0)
        with pytest.raises(
            flowq.ConfigurationError,
            match=r"this fleet is being changed from lease_ttl=1 s to 3 s, which this worker was given, but a live worker has not "
            r"acknowledged it: `flowq limits --lease-ttl 3` says how many",
        ):
            await flowq.run(with_add(shop, lease_ttl=3.0), start_timeout=0.3)
        app = with_add(shop)
        await shop.start(app)
        async with app:
            assert await works(app)
        await backend.fleet.leave(Standing(silent.member, 0, silent.epoch, 0))


async def test_another_layout(own_shop: Shop, client: redis.Redis) -> None:
    """Keys that another generation of flowq wrote: producers of both kinds and workers refuse before they write any."""
    client.hset(own_shop.key("clock"), mapping={"schema": "7", "ttl": "1000"})
    before = sorted(client.keys("*"))
    said = "the keys of this app were written in layout 7, this flowq reads layout 1: run the version of flowq that wrote them, or use"
    for use in (_enqueue, _run):
        with pytest.raises(flowq.IncompatibleLayout, match=said):
            await use(with_add(own_shop))

    def without_a_loop() -> None:
        app = with_add(own_shop)
        with app.sync() as producer:
            job = producer.job("add:1-0")
            # each time: the connection that was refused is not used either
            for ask in (
                lambda: producer.enqueue(app.tasks["add"].bind(1, 2)),
                job.status,
                job.cancel,
                job.result,
            ) * 2:
                with pytest.raises(flowq.IncompatibleLayout, match=said):
                    ask()

    await anyio.to_thread.run_sync(without_a_loop)
    assert sorted(key for key in client.keys("*") if key not in before) in ([], [own_shop.key("members")])
