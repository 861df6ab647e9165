"""A web app with its worker inside: POST a text, get an id; GET the id, get what was counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flowq

# asyncio, since that is what uvicorn runs; `flowq run examples.webapp.app:jobs` then takes the same loop
jobs = flowq.App("webapp", url=os.environ.get("FLOWQ_URL") or "embedded://", backend="asyncio")


@dataclass
class Words:
    """What is known of a text."""

    total: int
    different: int
    commonest: list[tuple[str, int]]


@jobs.task(limit=2, timeout=30)
def count_words(text: str) -> Words:
    """A plain def, so it runs in a thread and the web app goes on answering."""
    words = Counter(re.findall(r"\w+", text.lower()))
    return Words(words.total(), len(words), words.most_common(5))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """The worker lives as long as the web app: it drains when the server stops."""
    async with flowq.open_worker(jobs, concurrency=8, grace=10), jobs:
        yield


async def post(request: Request) -> JSONResponse:
    """Accept a text. ``Idempotency-Key`` makes a repeated request return the first one's job while that has not ended."""
    text = (await request.body()).decode(errors="replace")
    key = request.headers.get("idempotency-key")
    task = count_words.options(key=key) if key else count_words
    try:
        job = await task.enqueue(text)
    except flowq.PayloadTooLarge as error:
        return JSONResponse({"error": str(error)}, status_code=413)
    except flowq.ServerError as error:
        return JSONResponse({"error": str(error)}, status_code=503)
    return JSONResponse({"id": job.id}, status_code=202, headers={"location": f"/texts/{job.id}"})


async def get(request: Request) -> JSONResponse:
    """What became of it: 200 with the result, 202 while it is not there, 404, 410 or 500 if it never will be."""
    job = count_words.job(request.path_params["id"])
    try:
        words = await job.result(timeout=0)
    except TimeoutError:
        return JSONResponse({"status": await job.status()}, status_code=202)
    except flowq.ResultUnavailable as error:
        return JSONResponse({"error": str(error)}, status_code=404)
    except flowq.JobCancelled as error:
        return JSONResponse({"error": str(error)}, status_code=410)
    except flowq.JobFailed as error:
        return JSONResponse({"error": str(error), "kind": error.kind}, status_code=500)
    return JSONResponse({"status": "succeeded", "result": vars(words)})


async def ready(_: Request) -> JSONResponse:
    """For a probe."""
    return JSONResponse({"ready": True})


app = Starlette(
    routes=[
        Route("/texts", post, methods=["POST"]),
        Route("/texts/{id}", get, methods=["GET"]),
        Route("/ready", ready),
    ],
    lifespan=lifespan,
)
