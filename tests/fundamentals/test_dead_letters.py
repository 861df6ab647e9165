"""A job that ends without success is a dead letter: its arguments, the reason, the traceback. It can be replayed."""

from __future__ import annotations

import json
import sys

import anyio
import pytest

import flowq


async def test_dead_letter(app: flowq.App[None], redis_url: str) -> None:
    """``flowq dead ls`` shows it, and ``flowq dead replay`` makes a new job of it once the cause is mended."""
    is_mended = False

    @app.task(retries=0)
    async def divide(a: int, b: int) -> int:
        if not is_mended:
            raise RuntimeError("out of paper")
        return a // b

    async def flowq_dead(*words: str) -> str:
        command = [sys.executable, "-m", "flowq", "dead", *words, "-n", app.name, "-u", redis_url]
        return (await anyio.run_process(command)).stdout.decode()

    async with flowq.open_worker(app):
        job = await divide.enqueue(7, 2)
        with pytest.raises(flowq.JobFailed, match="out of paper"):
            await job.result(timeout=10)

        [letter] = json.loads(await flowq_dead("ls", "--json"))
        assert (letter["job"], letter["kind"]) == (job.id, "error")

        is_mended = True
        said = await flowq_dead("replay", job.id)  # "<old id> -> <new id>"
        assert await divide.job(said.split()[-1]).result(timeout=10) == 3
        assert json.loads(await flowq_dead("ls", "--json")) == []
