"""The app of the chaos run. Its bodies write ``bodies.log`` and return the token of their run."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager

import anyio

import flowq
from tests.stress.load import APP, KINDS
from tests.stress.logbook import Log

log = Log(os.environ.get("STRESS_BODIES", os.devnull))
app = flowq.App(APP, lease_ttl=float(os.environ.get("STRESS_TTL", "2")))
tokens = itertools.count()
PATIENT = 20
"""``max_crashes`` of jobs that are innocent: chance may hit one several times with a fault every two seconds."""


@contextmanager
def witnessed(task: str, number: int) -> Generator[str]:
    """Write down when this run begins and how it ends; gives its token."""
    job = flowq.current_job()
    token = f"{os.getpid()}.{next(tokens)}"
    log.note("start", task, number, token, job.id, job.fence)
    how = "cut"
    try:
        yield token
        how = "done"
    except Exception:
        how = "failed"
        raise
    finally:
        log.note(how, task, number, token)


async def wait(task: str, number: int) -> str:
    """A body that waits as long as its type says."""
    with witnessed(task, number) as token:
        await anyio.sleep(KINDS[task].seconds)
        return token


@app.task(limit=KINDS["single"].limit, retries=0, max_crashes=PATIENT)
async def single(number: int) -> str:
    return await wait("single", number)


@app.task(limit=KINDS["narrow"].limit, retries=0, max_crashes=PATIENT)
async def narrow(number: int) -> str:
    return await wait("narrow", number)


@app.task(limit=KINDS["wide"].limit, retries=0, max_crashes=PATIENT)
async def wide(number: int) -> str:
    return await wait("wide", number)


@app.task(limit=KINDS["long"].limit, retries=0, max_crashes=PATIENT)
async def long(number: int) -> str:
    """Longer than the lease."""
    return await wait("long", number)


@app.task(retries=0, max_crashes=PATIENT)
async def free(number: int) -> str:
    return await wait("free", number)


@app.task(retries=0, max_crashes=PATIENT)
async def delayed(number: int) -> str:
    return await wait("delayed", number)


@app.task(limit=KINDS["thread"].limit, retries=0, max_crashes=PATIENT)
def thread(number: int) -> str:
    """A plain function: it cannot be cancelled."""
    with witnessed("thread", number) as token:
        time.sleep(KINDS["thread"].seconds)
        return token


@app.task(retries=50, max_crashes=PATIENT, backoff=flowq.Backoff(base=0.2, factor=1))
async def flaky(number: int) -> str:
    """Fails at its first attempt."""
    with witnessed("flaky", number) as token:
        await anyio.sleep(KINDS["flaky"].seconds)
        if flowq.current_job().attempt == 1:
            raise ValueError("the first attempt fails")
        return token


@app.task(retries=0, max_crashes=PATIENT)
async def block(number: int) -> str:
    """Blocks the event loop for a moment."""
    with witnessed("block", number) as token:
        time.sleep(KINDS["block"].seconds)  # noqa: ASYNC251 -- that is the point
        return token


@app.task(retries=0, max_crashes=PATIENT)
async def hog(number: int, seconds: float) -> str:
    """Blocks the event loop for longer than a lease."""
    with witnessed("hog", number) as token:
        time.sleep(seconds)  # noqa: ASYNC251 -- that is the point
        return token


@app.task(retries=0, max_crashes=3)
async def poison(number: int) -> None:
    """Takes its worker down."""
    with witnessed("poison", number):
        await anyio.sleep(KINDS["poison"].seconds)
        os.kill(os.getpid(), signal.SIGKILL)
