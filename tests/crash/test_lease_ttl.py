"""The lease TTL of real workers is changed while they work, from 2 s to 4 s and back, with a killed worker and an emptied server."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from flowq.backends.redis.admin import open_admin
from flowq.backends.redis.url import parse_url
from tests.conftest import RedisServer
from tests.crash import witness
from tests.crash.fleet import ROOT, Fleet, all_done, settled, start_and_wait, submit, until

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


async def command(url: str, ttl: float) -> str:
    """What ``flowq limits --lease-ttl`` says; it must succeed."""
    words = [sys.executable, "-m", "flowq", "limits", "--lease-ttl", f"{ttl:g}", "-n", "crash", "-u", url]
    done = await anyio.run_process(words, cwd=ROOT, check=False, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


async def replaced(fleet: Fleet, server: RedisServer, backend: str, ttl: float) -> list[int]:
    """A rolling deploy: for each worker a new one with ``ttl`` joins, then the old one ends by SIGTERM."""
    fleet.ttl = ttl
    pids: list[int] = []
    with open_admin(parse_url(server.url), "crash") as admin:

        def live(given: float) -> int:
            return sum(w.alive and w.lease_ttl == given for w in admin.snapshot().workers)

        for old in fleet.alive():
            pids.append(fleet.start(backend))
            await until(lambda: live(ttl) == len(pids), 20, "a new worker joined")
            fleet.processes[old].terminate()
            await until(lambda pid=old: fleet.processes[pid].poll() is not None, 20, "an old one ended")  # type: ignore[misc]
        await until(lambda: admin.snapshot().lease_ttl_change is None, 10, "the change is complete")
        assert admin.snapshot().lease_ttl == ttl
    return pids


async def test_a_rolling_change_of_the_lease_ttl(fleet: Fleet, server: RedisServer, backend: str) -> None:
    """From 2 s to 4 s and back under load: nothing lost, at most 3 at once; a killed worker's job starts elsewhere within TTL + 1 s."""
    await start_and_wait(fleet, server, backend, 2)
    await submit(server.url, "work", *((n,) for n in range(60)))
    fleet.ttl = 4.0
    refused = fleet.start(backend)
    await until(lambda: fleet.processes[refused].poll() is not None, 20, "it was refused")
    assert "flowq limits --lease-ttl 4" in fleet.log.read_text()
    fleet.processes.pop(refused)

    assert "acknowledged by all" in await command(server.url, 4.0)
    pids = await replaced(fleet, server, backend, 4.0)
    bodies = await all_done(fleet, "work", 60, 60)
    assert witness.peak(bodies, "work", died={}) <= 3

    await submit(server.url, "free", (0, 1.5))
    await until(lambda: any(b.task == "free" for b in witness.read(fleet.witness)), 10, "the job runs")
    victim = next(b.pid for b in witness.read(fleet.witness) if b.task == "free")
    assert victim in pids
    died = fleet.kill(victim)

    def runs() -> list[witness.Body]:
        return [b for b in witness.read(fleet.witness) if b.task == "free"]

    await until(lambda: len(runs()) == 2, 15, "the job runs elsewhere")
    assert runs()[1].start - died <= 4.0 + 1.0

    await command(server.url, 2.0)
    await replaced(fleet, server, backend, 2.0)
    await settled(server)


async def test_a_server_emptied_in_the_middle_of_a_change(
    fleet: Fleet, server: RedisServer, backend: str
) -> None:
    """Old and new workers find together again, and at most 3 bodies run at once, whoever of them joins first."""
    await start_and_wait(fleet, server, backend, 2)
    await command(server.url, 4.0)
    fleet.ttl = 4.0
    with server.client() as client:
        fleet.start(backend)
        fleet.start(backend)
        await until(lambda: client.zcard("flowq:{crash}:members") == 5, 20, "old and new workers live")
        await submit(server.url, "work", *((n, 3.0) for n in range(12)))
        await until(lambda: len(witness.read(fleet.witness)) >= 3, 15, "work began")
        client.flushall()
        await submit(server.url, "work", *((100 + n, 0.3) for n in range(30)))
        await until(lambda: client.zcard("flowq:{crash}:members") == 5, 20, "all are members again")
        assert client.hget("flowq:{crash}:clock", "change").split()[:2] == ["2000", "4000"]

        def seen() -> bool:
            done = witness.completions(witness.read(fleet.witness), "work")
            return sum(number >= 100 for number in done) == 30

        await until(seen, 40, f"all that came later is done\n{fleet.log.read_text()[-3000:]}")
    assert witness.peak(witness.read(fleet.witness), "work", died=fleet.died) <= 3
    assert not fleet.died
    assert len(fleet.alive()) == 4
    await settled(server)
