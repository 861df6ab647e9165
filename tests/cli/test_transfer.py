"""``flowq export`` and ``flowq import``: every outstanding job goes along, once, with its id, its time and its key."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowq import App
from flowq import run as run_worker
from flowq.backends.redis import transfer
from flowq.cli import transfer as verbs
from tests.cli.stage import Ran, Stage, envelope, policy
from tests.conftest import RedisServer, leaks

Run = Callable[..., Ran]


@pytest.fixture
def there(redis_server: RedisServer) -> Iterator[Stage]:
    """The app that jobs are taken to."""
    made = Stage(redis_server.url, "t" + secrets.token_hex(5))
    yield made
    made.close()


def jobs_of(stage: Stage, flowq: Run, lane: str) -> dict[str, dict[str, Any]]:
    """What ``flowq ls`` shows."""
    rows = json.loads(flowq("ls", lane, "-n", stage.name, "--limit", "10000", "--json").out)
    return {row["id"]: row for row in rows}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def exported(tmp_path: Path, flowq: Run, *words: str) -> Path:
    path = tmp_path / f"{secrets.token_hex(4)}.jsonl"
    ran = flowq("export", "-o", str(path), *words)
    assert ran.code == 0, ran
    return path


def test_jobs_go_along_with_id_time_and_key(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """Never delivered, handed back, delayed, waiting for a retry: all are at the new place as they were, and run there."""
    gone, me = stage.join(resize=policy()), stage.join(other=policy())
    ids = [stage.submit("resize", n) for n in range(3)]
    assert len(stage.claim(gone, room=1)) == 1
    stage.leave(gone)
    stage.leave(me)
    ids.append(stage.submit("resize", "k", key="k", headers={"h": "1"}))
    ids.append(stage.submit("resize", "d", delay=600, key="l"))
    ids.append(stage.submit("other", attempt=2))

    path = exported(tmp_path, flowq)
    ran = flowq("import", str(path), "-n", there.name)

    assert (ran.code, ran.out.splitlines()[-1]) == (0, "6 jobs stored"), ran
    found = jobs_of(there, flowq, "resize") | jobs_of(there, flowq, "other")
    assert list(found) == ids
    assert [row["status"] for row in found.values()] == ["ready"] * 4 + ["delayed", "ready"]
    assert 590 < found[ids[4]]["seconds"] <= 600
    assert found[ids[3]]["envelope"]["headers"] == {"h": "1"}
    assert found[ids[5]]["envelope"]["attempt"] == 2
    assert found[ids[0]]["envelope"]["enqueued_at"] == int(ids[0].partition(":")[2].partition("-")[0])
    assert there.client.get(there.keys.prefix + "u:resize:k") == ids[3].encode()
    assert there.submit("resize", "again", key="l") == ids[4]
    worker = there.join(resize=policy(limit=9), other=policy())
    assert [json.loads(d.raw)["args"] for d in there.claim(worker, room=9) if d.lane == "resize"] == [
        [0], [1], [2], ["k"],
    ]  # fmt: skip
    assert flowq("doctor", "-n", there.name).code == 0


def test_the_end_of_an_imported_job_leaves_nothing(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Its key is free, its row in ``moved`` is gone, its result is found by the old id."""
    job = stage.submit("resize", key="k")
    assert flowq("import", str(exported(tmp_path, flowq)), "-n", there.name).code == 0

    assert flowq("cancel", job, "-n", there.name, "--reason", "enough").code == 0

    assert json.loads(flowq("show", job, "-n", there.name, "--json").out)["status"] == "cancelled"
    with redis_server.client() as client:
        assert leaks(client, there.name) == []
    assert there.client.pttl(there.keys.imported) > 29 * 86_400_000


def test_a_worker_runs_them_and_the_old_id_has_the_result(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path
) -> None:
    """A real worker at the new place: ready, due and keyed jobs run once each, and nothing is outstanding afterwards."""
    ids = [
        stage.submit("double", 1),
        stage.submit("double", 2, delay=0.5),
        stage.submit("double", 3, key="k"),
    ]
    assert flowq("import", str(exported(tmp_path, flowq)), "-n", there.name).code == 0
    app = App(there.name, url=there.url)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async def work() -> list[int]:
        async with app:
            await run_worker(app, burst=True, burst_wait=5)
            return [await double.job(job).result(timeout=1) for job in ids]

    assert anyio.run(work) == [2, 4, 6]
    assert flowq("export", "-n", there.name, "-o", str(tmp_path / "rest")).err.startswith("0 jobs exported")
    assert flowq("doctor", "-n", there.name).code == 0


def test_a_full_memory_refuses_a_chunk_whole(
    stage: Stage, flowq: Run, tmp_path: Path, new_redis: Callable[..., RedisServer]
) -> None:
    """It says so, and what to do; after room was made the same command stores all."""
    for n in range(3):
        stage.submit("resize", n, delay=n)
    path = str(exported(tmp_path, flowq))
    full = Stage(new_redis().url, "full")
    full.client.config_set("maxmemory", 1)

    ran = flowq("import", path, "-n", "full", "-u", full.url)
    assert ran.code == 69
    assert "run it again" in ran.err
    assert full.client.keys("*") == []

    full.client.config_set("maxmemory", 0)
    assert "3 jobs stored" in flowq("import", path, "-n", "full", "-u", full.url).out
    full.close()


def test_a_second_import_stores_nothing(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """Not while the jobs wait, and not after they have ended; ``--again`` stores those that have ended, under other ids if need be."""
    jobs = [stage.submit("resize", n, delay=n * 100) for n in range(3)]
    path = str(exported(tmp_path, flowq))
    assert flowq("import", path, "-n", there.name).out.splitlines()[-1] == "3 jobs stored"
    assert flowq("cancel", jobs[1], "-n", there.name).code == 0

    ran = flowq("import", path, "-n", there.name)
    assert (ran.code, ran.out) == (
        0,
        "0 jobs stored\n3 skipped: imported before (--again: those that have ended since)\n",
    )
    assert len(jobs_of(there, flowq, "resize")) == 2

    again = flowq("import", path, "-n", there.name, "--again")
    assert "1 job stored\n1 of them given new ids" in again.out
    assert len(jobs_of(there, flowq, "resize")) == 3


def test_back_to_where_they_came_from(stage: Stage, flowq: Run, tmp_path: Path) -> None:
    """What is still outstanding there is not doubled, what has ended stays so; what was lost comes back with its id."""
    kept, lost, ended = (stage.submit("resize", n) for n in range(3))
    path = str(exported(tmp_path, flowq))
    assert flowq("cancel", ended).code == 0
    stage.client.xdel(stage.keys.stream("resize"), lost.partition(":")[2])

    ran = flowq("import", path)

    assert "1 job stored" in ran.out
    assert "1 skipped: exported from here, and still outstanding" in ran.out
    assert "1 skipped: exported from here, and ended since" in ran.out
    assert list(jobs_of(stage, flowq, "resize")) == [kept, lost]
    assert "1 job stored\n1 of them given new ids" in flowq("import", path, "--again").out
    assert len(jobs_of(stage, flowq, "resize")) == 3


def test_an_emptied_server_gets_its_jobs_back(
    stage: Stage, flowq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``-n`` the file says which app; every job has its id again."""
    ids = [stage.submit("resize"), stage.submit("resize", delay=60)]
    path = str(exported(tmp_path, flowq))
    stage.client.unlink(*stage.client.keys(stage.keys.prefix + "*"))
    monkeypatch.delenv("FLOWQ_NAME")

    ran = flowq("import", path)

    assert ran.code == 0
    assert f"has no app {stage.name!r} yet" in ran.err
    assert list(jobs_of(stage, flowq, "resize")) == ids


def test_another_job_has_the_id(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """Two apps into one: ids that clash, or may come to clash, are replaced; both jobs live."""
    job = stage.submit("resize", "mine")
    path = exported(tmp_path, flowq)
    there.client.xadd(
        there.keys.stream("resize"), {"d": envelope("resize", "theirs")}, id=job.partition(":")[2]
    )
    lines = lines_of(path)
    ahead = f"resize:{round(time.time() * 1000) + 3_600_000}-0"
    rewrite(path, [*lines[:2], {**lines[1], "id": ahead}, {"end": 2}])

    dry = flowq("import", str(path), "-n", there.name, "--dry-run")
    ran = flowq("import", str(path), "-n", there.name)

    assert "2 of them would be given new ids" in dry.out
    assert "2 of them given new ids" in ran.out
    found = jobs_of(there, flowq, "resize")
    assert sorted(row["envelope"]["args"][0] for row in found.values()) == ["mine", "mine", "theirs"]
    assert ahead not in found


def test_a_key_that_another_job_has(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """That job is refused by name, the others are stored; once the key is free, running it again stores it."""
    job = stage.submit("resize", key="k")
    stage.submit("resize")
    path = str(exported(tmp_path, flowq))
    other = there.submit("resize", delay=9, key="k")

    ran = flowq("import", path, "-n", there.name)
    assert ran.code == 1
    assert f"{job}: its idempotency key 'k' belongs to {other}, which has not ended" in ran.out
    assert "1 job stored" in ran.out

    assert flowq("cancel", other, "-n", there.name).code == 0
    assert flowq("import", path, "-n", there.name).code == 0
    assert job in jobs_of(there, flowq, "resize")


def test_what_runs_is_left_out_or_marked(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """In flight under a live worker: said and left out, or marked ``running``. A dead worker's jobs are ready."""
    live, dead = stage.join(resize=policy()), stage.join(resize=policy())
    ids = [stage.submit("resize", n) for n in range(3)]
    assert len(stage.claim(live, room=1)) == len(stage.claim(dead, room=1)) == 1
    stage.expire(dead)

    without = tmp_path / "without.jsonl"
    ran = flowq("export", "-o", str(without))
    path = exported(tmp_path, flowq, "--running")

    assert "1 in flight are left out" in ran.err
    assert "workers serve resize" in ran.err
    assert [line["id"] for line in lines_of(without)[1:-1]] == ids[1:]
    assert [line["state"] for line in lines_of(path)[1:-1]] == ["running", "ready", "ready"]
    assert flowq("import", str(path), "-n", there.name).code == 0
    assert list(jobs_of(there, flowq, "resize")) == ids


def test_pages_and_chunks(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More jobs than a page holds, many due in the same ms and some overdue: each comes once and in order."""
    monkeypatch.setattr(transfer, "PAGE", 7)
    monkeypatch.setattr(verbs, "CHUNK", 5)
    ids = [stage.submit("resize", n, delay=5 + n / 10) for n in range(40)]
    soon = time.time() * 1000 - 60_000
    stage.client.zadd(stage.keys.delayed, dict.fromkeys(ids[:30], soon))
    ready = [stage.submit("resize", n) for n in range(23)]

    path = exported(tmp_path, flowq)
    said = [line["id"] for line in lines_of(path)[1:-1]]
    assert sorted(said[:30]) == sorted(ids[:30])
    assert said[30:] == ids[30:] + ready

    assert flowq("import", str(path), "-n", there.name).code == 0
    found = jobs_of(there, flowq, "resize")
    assert len(found) == len(said) == 63
    assert [job for job, row in found.items() if row["status"] == "ready"] == said[:30] + ready


def test_an_entry_that_is_no_job(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """Goes along byte for byte, and ends there as it would have here: JSON of several lines runs, garbage becomes a dead letter."""
    stage.submit("resize", raw=b"\xff not JSON")
    pretty = stage.submit(
        "resize", raw=json.dumps({"v": 1, "task": "resize", "args": [7]}, indent=1).encode()
    )
    path = exported(tmp_path, flowq)
    assert base64.b64decode(lines_of(path)[1]["raw"]) == b"\xff not JSON"

    assert flowq("import", str(path), "-n", there.name).code == 0
    assert flowq("import", str(path), "-n", there.name).out.startswith("0 jobs stored")

    worker = there.join(resize=policy())
    raws = [d.raw for d in there.claim(worker)]
    assert raws[0] == b"\xff not JSON"
    assert (json.loads(raws[1])["id"], json.loads(raws[1])["args"]) == (pretty, [7])


def test_dry_run_changes_nothing(stage: Stage, there: Stage, flowq: Run, tmp_path: Path) -> None:
    """And says what would be."""
    stage.submit("resize", key="k")
    stage.submit("resize", delay=60)

    ran = flowq("import", str(exported(tmp_path, flowq)), "-n", there.name, "--dry-run")

    assert "2 jobs would be stored" in ran.out
    assert "has no app" in ran.err
    assert there.client.keys(there.keys.prefix + "*") == []


BAD = {
    "not JSON": "{",
    "a stranger's id": {"id": "other:1-1", "type": "resize", "state": "ready", "job": {"v": 1}},
    "no id": {"id": "resize", "type": "resize", "state": "ready", "job": {"v": 1}},
    "a name that no task has": {"id": "a b:1-1", "type": "a b", "state": "ready", "job": {"v": 1}},
    "no job": {"id": "resize:1-1", "type": "resize", "state": "ready"},
    "no state": {"id": "resize:1-1", "type": "resize", "job": {"v": 1}},
    "due, and ready": {"id": "resize:1-1", "type": "resize", "state": "ready", "due": 5, "job": {"v": 1}},
    "no base64": {"id": "resize:1-1", "type": "resize", "state": "ready", "raw": "*"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_refused_by_its_number(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path, what: str
) -> None:
    """The lines around it are stored, the exit code is 1."""
    stage.submit("resize", 1)
    stage.submit("resize", 2)
    path = exported(tmp_path, flowq)
    head, first, second, _ = lines_of(path)
    rewrite(path, [head, first, BAD[what], second, {"end": 3}])

    ran = flowq("import", str(path), "-n", there.name)

    assert ran.code == 1
    assert "line 3: " in ran.out
    assert "not whole" not in ran.out
    assert len(jobs_of(there, flowq, "resize")) == 2


@pytest.mark.parametrize("kept", ["no end", "a line lost"])
def test_a_file_that_was_cut_off(stage: Stage, there: Stage, flowq: Run, tmp_path: Path, kept: str) -> None:
    """What it has is stored, and it is said that it is not whole."""
    for n in range(3):
        stage.submit("resize", n)
    path = exported(tmp_path, flowq)
    lines = lines_of(path)
    rewrite(path, lines[:-1] if kept == "no end" else lines[:2] + lines[3:])

    ran = flowq("import", str(path), "-n", there.name)

    assert ran.code == 1
    assert "the file is not whole" in ran.out
    assert len(jobs_of(there, flowq, "resize")) == (3 if kept == "no end" else 2)


@pytest.mark.parametrize(
    ("first", "says"),
    [("", "does not begin as"), ('{"flowq_export":2,"app":"a","place":"p","at":1}', "version 2")],
)
def test_a_file_of_something_else(flowq: Run, tmp_path: Path, first: str, says: str) -> None:
    """Is an error before anything is asked of the server."""
    path = tmp_path / "file"
    path.write_text(first + "\n")
    ran = flowq("import", str(path))
    assert ran.code == 78
    assert says in ran.err


def test_files_that_cannot_be(stage: Stage, flowq: Run, tmp_path: Path) -> None:
    """A file that is there is never written over; one that is missing, or a folder that is, is said."""
    stage.submit("resize")
    path = exported(tmp_path, flowq)
    for words, says in (
        (("export", "-o", str(path)), "is there already"),
        (("export", "-o", str(tmp_path / "no" / "file")), "cannot be written"),
        (("import", str(tmp_path / "none")), "cannot be read"),
        (("export", "--type", "resise"), "no type 'resise'"),
    ):
        ran = flowq(*words)
        assert ran.code == 78
        assert says in ran.err
    assert len(lines_of(path)) == 3


def test_only_one_type(stage: Stage, flowq: Run, tmp_path: Path) -> None:
    """``--type`` leaves the others out, delayed ones too."""
    job = stage.submit("resize", delay=60)
    stage.submit("email")
    stage.submit("email", delay=60)
    assert [line["id"] for line in lines_of(exported(tmp_path, flowq, "--type", "resize"))[1:-1]] == [job]


def test_a_lane_with_a_foreign_value_refuses_the_chunk(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path
) -> None:
    """Nothing of it is stored, and the key is named; once it is gone the import goes through."""
    stage.submit("email")
    stage.submit("resize")
    path = str(exported(tmp_path, flowq))
    there.client.set(there.keys.stream("resize"), "mine")

    ran = flowq("import", path, "-n", there.name)
    assert ran.code != 0
    assert there.keys.stream("resize") in ran.err
    assert there.client.xlen(there.keys.stream("email")) == 0

    there.client.delete(there.keys.stream("resize"))
    assert flowq("import", path, "-n", there.name).code == 0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flowq", *words]


def test_through_a_pipe(stage: Stage, there: Stage, flowq: Run) -> None:
    """``flowq export | flowq import -``: standard output holds nothing but the file."""
    ids = [stage.submit("resize", n) for n in range(10)]
    env = os.environ | {"FLOWQ_URL": stage.url}
    out = subprocess.run(
        command("export", "-n", stage.name), env=env, capture_output=True, check=True, timeout=60
    ).stdout
    done = subprocess.run(
        command("import", "-", "-n", there.name),
        env=env,
        input=out,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"10 jobs stored" in done.stdout
    assert list(jobs_of(there, flowq, "resize")) == ids


def test_two_importers_killed_and_started_again(
    stage: Stage, there: Stage, flowq: Run, tmp_path: Path
) -> None:
    """Both read the same file at once, both get SIGKILL in the middle: in the end each job is there once, with its id."""
    total = 6000
    now = round(time.time() * 1000) - 10_000
    rows = [
        {
            "id": f"resize:{now}-{n}",
            "type": "resize",
            "state": "ready",
            "job": {"v": 1, "task": "resize", "args": [n]},
        }
        for n in range(total)
    ]
    path = tmp_path / "jobs.jsonl"
    rewrite(
        path,
        [{"flowq_export": 1, "app": there.name, "place": "elsewhere", "at": now}, *rows, {"end": total}],
    )
    env = os.environ | {"FLOWQ_URL": stage.url}
    importing = [
        subprocess.Popen(command("import", str(path), "-n", there.name), env=env, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    until = time.monotonic() + 60
    while there.client.xlen(there.keys.stream("resize")) < 400:
        assert time.monotonic() < until
        time.sleep(0.001)
    for process in importing:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert 400 <= there.client.xlen(there.keys.stream("resize")) < total

    importing = [
        subprocess.Popen(command("import", str(path), "-n", there.name), env=env, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in importing] == [0, 0]
    for process in importing:
        process.communicate()

    entries: Any = there.client.xrange(there.keys.stream("resize"))
    seen = [json.loads(fields[b"d"]) for _, fields in entries]
    assert [job["args"][0] for job in seen] == list(range(total))
    assert [job["id"] for job in seen] == [row["id"] for row in rows]
