# /// script
# requires-python = ">=3.11"
# dependencies = ["repid[redis]==2.1.4", "hiredis==3.5.0", "uvloop==0.23.0", "typing_extensions==4.15.0"]
# [tool.bench]
# docs = [
#   "https://repid.aleksul.space/: run_worker(tasks_limit=1000) and RedisServer(batch_size=10) are its defaults; it keeps no results",
# ]
# note = "Its stream keeps ended jobs, as it acknowledges without deleting. Recovery is off by default (claim_interval=0.0), and is measured so."
# queued = "XLEN repid:default"
# wide = { by = "tasks_limit", batch_size = 100 }
# [tool.bench.contestants]
# "uvloop" = { loop = "uvloop" }
# "asyncio" = { loop = "asyncio" }
# [[tool.bench.settings]]
# tasks_limit = 1000
# batch_size = 10
# [[tool.bench.settings]]
# tasks_limit = 1000
# batch_size = 100
# [[tool.bench.settings]]
# tasks_limit = 200
# batch_size = 100
# ///
"""repid: asyncio, Redis Streams."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import adapter
from evidence import SETTINGS, named, registered
from repid import RedisServer, Repid, Router

router = Router()


registered(lambda _, body: router.actor(channel="default")(body))


def make() -> Repid:
    app = Repid(title="bench", version="1.0.0")
    server = RedisServer(SETTINGS["url"], batch_size=SETTINGS["batch_size"])
    app.servers.register_server("default", server, is_default=True)
    app.include_router(router)
    return app


class Producer(adapter.Producer):
    def __init__(self, app: Repid) -> None:
        self.app = app

    async def one(self, body: str, *args: Any) -> None:
        await self.app.send_message_json(
            channel="default", payload=named(body, args), headers={"topic": body}
        )


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    app = make()
    async with app.servers.default.connection():
        yield Producer(app)


def work() -> None:
    logging.disable(logging.INFO)

    async def run() -> None:
        app = make()
        async with app.servers.default.connection():
            await app.run_worker(tasks_limit=SETTINGS["tasks_limit"])

    adapter.run_async(run)


if __name__ == "__main__":
    adapter.main(work, opened=opened)
