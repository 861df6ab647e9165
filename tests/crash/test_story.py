"""What flowq is for, on real processes: limits that hold, jobs that come back, nothing lost."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from tests.conftest import RedisServer, running_redis
from tests.crash import witness
from tests.crash.conftest import AOF
from tests.crash.fleet import Fleet, all_done, at_rest, fleet_of, settled, start_and_wait, submit, until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


async def test_the_seed_story(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """Limit 3, 12 jobs, 4 workers: exactly 3 run at once, not 1, and all 12 succeed."""
    await start_and_wait(fleet, server, backend, 4)
    await anyio.sleep(fleet.ttl)
    await submit(server.url, "work", *((n,) for n in range(12)))
    bodies = await all_done(fleet, "work", 12, 20)
    assert set(witness.completions(bodies, "work").values()) == {1}
    assert witness.peak(bodies, "work", died={}) == 3
    # 3 on a quiet machine (`python -m bench balance`); the old design ran one at a time
    assert witness.effective_concurrency(bodies, "work") > 1.8
    await settled(server)


async def test_work_spreads_over_the_workers(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """4 workers, limit 3, 60 jobs of 0.3 s: at least 3 workers run bodies, none more than half of them."""
    await start_and_wait(fleet, server, backend, 4)
    await submit(server.url, "work", *((n,) for n in range(60)))
    bodies = await all_done(fleet, "work", 60, 40)
    shares = [sum(b.pid == pid for b in bodies) for pid in fleet.processes]
    assert sum(share > 0 for share in shares) >= 3, shares
    assert max(shares) <= 30, shares
    assert witness.peak(bodies, "work", died={}) == 3


async def test_killed_and_stopped_workers(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """Two workers SIGKILLed, two SIGSTOPped past the lease: nothing lost, at most 3 at once, each outcome recorded once."""
    first, second, third, fourth = await start_and_wait(fleet, server, backend, 4)
    await submit(server.url, "work", *((n,) for n in range(60)))
    await until(lambda: len(witness.read(fleet.witness)) >= 6, 15, "work began")
    fleet.kill(first)
    await anyio.sleep(0.5)
    fleet.stop(third)
    await anyio.sleep(0.2)
    fleet.kill(second)
    await anyio.sleep(1.5 * fleet.ttl)
    fleet.go_on(third)
    fleet.stop(fourth)
    await anyio.sleep(1.5 * fleet.ttl)
    fleet.go_on(fourth)
    bodies = await all_done(fleet, "work", 60, 60)
    excused = {pid: (at, at + 1.5 * fleet.ttl + 1.0) for pid, at in fleet.stopped.items()}
    assert witness.peak(bodies, "work", died=fleet.died, excused=excused) <= 3
    await settled(server)
    with server.client() as client:
        assert int(client.hget("flowq:{crash}:stats:work", "succeeded") or 0) == 60
        assert client.xlen("flowq:{crash}:dead") == 0


@pytest.mark.parametrize("ttl", [2.0, 10.0])
async def test_a_killed_workers_job_starts_elsewhere(
    server: RedisServer, tmp_path: Path, backend: str, ttl: float
) -> None:
    """From SIGKILL to the body's start in another worker: at most the lease plus one second."""
    with fleet_of(server.url, tmp_path, ttl) as fleet:
        pids = await start_and_wait(fleet, server, backend, 2)
        await submit(server.url, "work", (0, 1.5))
        await until(lambda: len(witness.read(fleet.witness)) == 1, 2 * ttl + 5, "the job runs")
        victim = witness.read(fleet.witness)[0].pid
        assert victim in pids
        died = fleet.kill(victim)
        await until(lambda: len(witness.read(fleet.witness)) == 2, ttl + 10, "the job runs elsewhere")
        recovered = witness.read(fleet.witness)[1].start - died
        assert recovered <= ttl + 1.0, recovered
        await all_done(fleet, "work", 1, 10)
        await settled(server)


async def test_a_blocked_loop_keeps_its_lease(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """A body that blocks the event loop for three leases is not run twice."""
    await start_and_wait(fleet, server, backend, 2)
    await submit(server.url, "block", (0, 3 * fleet.ttl))
    bodies = await all_done(fleet, "block", 1, 30)
    assert len([b for b in bodies if b.task == "block"]) == 1
    await settled(server)
    with server.client() as client:
        assert int(client.hget("flowq:{crash}:stats:block", "succeeded") or 0) == 1


async def test_one_poison_job_condemns_no_other(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """Among 40 bodies in one worker, one kills it again and again: exactly that one becomes a dead letter."""
    await start_and_wait(fleet, server, backend, 1)
    await submit(server.url, "free", *((n, 0.6) for n in range(40)))
    await submit(server.url, "poison", (0,))
    with server.client() as client:
        deadline = time.monotonic() + 90
        while client.xlen("flowq:{crash}:dead") == 0:
            assert time.monotonic() < deadline, fleet.log.read_text()[-3000:]
            if not fleet.alive():
                fleet.start(backend)
            await anyio.sleep(0.1)
        if not fleet.alive():
            fleet.start(backend)
        await all_done(fleet, "free", 40, 60)
        letters = [fields["lane"] for _, fields in client.xrange("flowq:{crash}:dead")]
        assert letters == ["poison"]


async def test_redis_killed_twice_under_load(tmp_path: Path, backend: str) -> None:
    """redis-server SIGKILLed and restarted twice, a worker SIGKILLed before: nothing lost, at most 3 at once, all goes on."""
    socket = tmp_path / "s"
    options = (*AOF, "--unixsocket", str(socket))
    data = tmp_path / "data"
    data.mkdir()
    ttl = 2.0
    with fleet_of(f"unix://{socket}", tmp_path, ttl) as fleet:
        with running_redis(*options, folder=data) as server:
            pids = await start_and_wait(fleet, server, backend, 4)
            await submit(fleet.url, "work", *((n,) for n in range(60)))
            await until(lambda: len(witness.read(fleet.witness)) >= 6, 15, "work began")
            fleet.kill(pids[0])
            await anyio.sleep(0.3)
            server.process.kill()
            server.process.wait()
        with running_redis(*options, folder=data) as server:
            so_far = len(witness.read(fleet.witness))
            await until(lambda: len(witness.read(fleet.witness)) >= so_far + 6, 20, "work goes on")
            server.process.kill()
            server.process.wait()
        with running_redis(*options, folder=data) as server:
            bodies = await all_done(fleet, "work", 60, 60)
            assert witness.peak(bodies, "work", died=fleet.died) <= 3
            with server.client() as client:
                await until(lambda: not at_rest(client), 10, f"everything settled: {at_rest(client)}")
                assert client.xlen("flowq:{crash}:dead") == 0
