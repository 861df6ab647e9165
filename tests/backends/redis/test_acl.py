"""The ACL users of docs/operations.md, tried: each may do all that its part of flowq does, and nothing of it is denied."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
import redis
from typer.testing import CliRunner

import flowq
from flowq._model import LanePolicy, Want
from flowq.backends.protocol import MemberFacts, Standing
from flowq.backends.redis import scripts
from flowq.backends.redis.admin import open_admin
from flowq.backends.redis.keys import app_prefix
from flowq.backends.redis.open import open_redis
from flowq.backends.redis.url import parse_url
from flowq.cli.commands import app as commands
from tests.backends.redis.conftest import Server

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
USERS = dict(
    line.split(maxsplit=2)[1:]
    for block in re.findall(r"^```acl\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
)
"""User → rules, as the page has them."""
CALL = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '(CREATE|DELCONSUMER|GROUPS)')?|= \{'(XCLAIM)'")
TTL = 1.0


def named_in_scripts() -> set[str]:
    """Every command that a worker's and a producer's scripts name, as an ACL rule says it."""
    found = set()
    for script in scripts.ALL:
        for first, second, built in CALL.findall(script.text_for((7, 0, 0))):
            found.add(f"{first or built}{'|' if second else ''}{second}".lower())
    return found


@pytest.fixture
def acl_server(new_server: Callable[..., Server]) -> Iterator[Server]:
    """A server with the page's users; whatever was denied is in its ACL LOG."""
    server = new_server()
    with server.client() as client:
        more = ["+client|setinfo"] if server.version == "redis8" else []
        for user, rules in USERS.items():
            client.execute_command("ACL", "SETUSER", user, *rules.split(), *more)
        client.execute_command("ACL", "LOG", "RESET")
        yield server


def url(server: Server, user: str) -> str:
    part = user.removeprefix("shop-").upper()
    return f"redis://{user}:{part}_PASSWORD@127.0.0.1:{server.port}/0"


def denied(client: redis.Redis) -> list[str]:
    """What the server denied since the start, as it says it."""
    rows = [f"{row['username']}: {row['object']} ({row['reason']})" for row in client.acl_log()]
    # redis-py's CLIENT SETINFO, which 6.2 does not have and the page says is harmless
    return [row for row in rows if client.info("server")["redis_version"] >= "7.2" or ": client (" not in row]


def make_app(server: Server, user: str) -> flowq.App[None]:
    app = flowq.App("shop", url(server, user), lease_ttl=TTL)

    @app.task(limit=2, backoff=flowq.Backoff(base=0.01))
    async def limited(n: int) -> int:
        if flowq.current_job().attempt == 1:
            raise flowq.Retry
        return n

    @app.task
    async def rejects() -> None:
        raise flowq.Reject("no")

    @app.task
    async def endless() -> None:
        await anyio.sleep_forever()

    @app.task(results=False)
    async def plain() -> None: ...

    return app


@pytest.fixture
async def app(acl_server: Server, anyio_backend: object) -> AsyncIterator[flowq.App[None]]:
    """A producer, by its own user; a worker runs, by its own."""
    worker = make_app(acl_server, "shop-worker")
    async with flowq.open_worker(worker), make_app(acl_server, "shop-producer") as producer:
        yield producer


async def until_status(job: flowq.Job[object], status: str) -> None:
    with anyio.fail_after(10):
        while await job.status() != status:  # noqa: ASYNC110 -- the fact is in the server
            await anyio.sleep(0.01)


def test_the_workers_rules_name_what_the_scripts_do() -> None:
    """Not one command more than scripts and connections need, and none less."""
    allowed = {rule[1:] for rule in USERS["shop-worker"].split() if rule.startswith("+")}
    of_connections = {
        *("hello", "auth", "select", "ping", "client|id", "client|setname", "client|unblock"),
        *("script|load", "evalsha", "subscribe", "unsubscribe"),
    }
    of_connections |= {"multi", "exec", "hlen", "xrevrange"}  # a look for /metrics
    assert allowed == named_in_scripts() | of_connections
    assert allowed > {rule[1:] for rule in USERS["shop-producer"].split() if rule.startswith("+")}


async def test_a_jobs_whole_way(acl_server: Server, app: flowq.App[None]) -> None:
    """Submit, key, delay, retry, result, dead letter, cancel of each kind, drain: nothing is denied to either user."""
    limited, endless = app.tasks["limited"], app.tasks["endless"]
    jobs = await app.enqueue_many(limited.bind(n) for n in range(5))
    assert [await job.result(timeout=10) for job in jobs] == list(range(5))
    keyed = await limited.options(key="k", delay=0.05, headers={"a": "b"}).enqueue(7)
    assert await keyed.result(timeout=10) == 7
    with pytest.raises(flowq.JobFailed):
        await (await app.enqueue("rejects")).result(timeout=10)
    running = await endless.enqueue()
    await until_status(running, "running")
    assert await running.cancel(wait=True) == "requested"
    later = await endless.options(delay=100, key="later").enqueue()
    assert await later.cancel() == "removed"
    await until_status(await app.enqueue("plain"), "unknown")

    def in_a_thread() -> int:
        with app.sync() as sync:
            return sync.enqueue(limited.bind(9)).result(timeout=10)

    assert await anyio.to_thread.run_sync(in_a_thread) == 9
    with acl_server.client() as client:
        assert denied(client) == []


async def test_what_a_dead_worker_left_is_taken_over(acl_server: Server, app: flowq.App[None]) -> None:
    """Adoption, burying the dead, and crash counts are allowed, too."""
    place = open_redis(url(acl_server, "shop-worker"), prefix=app_prefix("shop"), name="dead")
    async with place as backend:
        facts = MemberFacts("here", 1, "0", 1, "trio")
        policy = {"lost": LanePolicy(1, 3, False, 1000), "plain": LanePolicy(None, 3, False, 1000)}
        joined = await backend.fleet.join(facts, policy, ttl=TTL)
        me = Standing(joined.member, 0, joined.epoch, 0)
        await app.pause("plain")  # so that the live worker does not take it first
        job = await app.enqueue("plain")
        await app.resume("plain")
        claimed = (await backend.stream.exchange(me, [], Want(1, 1, {}))).claimed
        assert claimed is not None
    await until_status(job, "unknown")
    with acl_server.client() as client:
        assert denied(client) == []


async def test_a_producer_meets_a_server_that_forgot(acl_server: Server) -> None:
    """Whoever greets it first begins the new epoch: a producer, too."""
    app = make_app(acl_server, "shop-producer")
    async with flowq.open_worker(make_app(acl_server, "shop-worker")):
        async with app:
            await app.enqueue("plain")
        with acl_server.client() as client:
            client.delete("flowq:{shop}:members")
            before = client.hget("flowq:{shop}:clock", "ep")
            async with app:
                assert client.hget("flowq:{shop}:clock", "ep") != before
                job = await app.enqueue("limited", 3)
                assert await job.result(timeout=10) == 3
            assert denied(client) == []


async def test_a_producer_may_not_work(acl_server: Server) -> None:
    """It is told at the start which user lacks what, not later job by job."""
    with pytest.raises(flowq.AuthenticationFailed, match="ACL"):
        await flowq.run(make_app(acl_server, "shop-producer"))


async def test_keys_of_others_are_out_of_reach(acl_server: Server) -> None:
    """A user of one app can neither read nor write another one's keys."""
    foreign = flowq.App("bank", url(acl_server, "shop-producer"))
    with pytest.raises(flowq.AuthenticationFailed):
        async with foreign:
            await foreign.enqueue("pay")
    with acl_server.client() as client:
        assert client.keys("flowq:{bank}*") == []


def test_a_look_for_the_metrics(acl_server: Server) -> None:
    """A worker process of `flowq run` looks by the worker's user."""
    app = make_app(acl_server, "shop-worker")

    async def prepare() -> None:
        async with app:
            await app.enqueue("rejects")
            await app.tasks["plain"].options(delay=100).enqueue()
        await flowq.run(app, burst=True)

    anyio.run(prepare)
    with open_admin(parse_url(url(acl_server, "shop-worker")), "shop") as admin:
        assert [t.dead for t in admin.snapshot().types if t.name == "rejects"] == [1]
    with acl_server.client() as client:
        assert denied(client) == []


def test_the_operators_commands(acl_server: Server, tmp_path: Path) -> None:
    """The command line's verbs work by the operator's user."""

    async def prepare() -> str:
        worker = make_app(acl_server, "shop-worker")
        async with make_app(acl_server, "shop-producer") as app:
            await app.enqueue("rejects")
            await flowq.run(worker, burst=True)
            return (await app.tasks["plain"].options(delay=100).enqueue()).id

    job_id = anyio.run(prepare)
    for words in (
        *("status", "apps", "ls plain", f"show {job_id}", f"why {job_id}", "dead ls", "dead replay --all"),
        *("limits", "limits --lease-ttl 3", "limits set plain 5", "limits reset plain", "pause plain", "resume plain"),
        *(f"export -o {tmp_path}/jobs", f"import {tmp_path}/jobs"),
        *(f"cancel {job_id}", "purge plain --yes", "doctor"),
    ):  # fmt: skip
        named = [] if words == "apps" else ["-n", "shop"]
        done = CliRunner().invoke(
            commands, [*words.split(), *named, "-u", url(acl_server, "shop-operator")], catch_exceptions=False
        )
        assert done.exit_code == 0, (words, done.output)
    with acl_server.client() as client:
        assert denied(client) == []
