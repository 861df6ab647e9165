"""One member of a group in a process of its own, to be killed, stopped, woken, and asked to end by SIGTERM.

``python -m tests.kafka.member URL GROUP TOPIC LOG BACKEND UNFINISHED``: takes whatever comes and finishes it, but for the records whose
value begins with one of ``UNFINISHED``'s letters. Each thing it does is a line of LOG.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TextIO

import anyio

from flowq.backends.kafka.buffer import Belongs, Fetched
from flowq.backends.kafka.consumer import KafkaConsumer, open_consumer
from flowq.backends.kafka.url import parse_kafka_url


async def take(consumer: KafkaConsumer, out: TextIO, held: list[Fetched], unfinished: str) -> None:
    while True:
        for record in consumer.take("work", 100):
            value = record.value.decode()
            if value[0] in unfinished:
                held.append(record)
                out.write(f"held {value}\n")
            else:
                out.write(f"ran {value}\n")
                if consumer.finish([record]):
                    out.write(f"refused {value}\n")
        await anyio.sleep(0.01)


async def work(url: str, group: str, topic: str, out: TextIO, unfinished: str) -> None:
    held: list[Fetched] = []

    def lost(belongs: Belongs) -> None:
        gone = [record for record in held if belongs(record)]
        held[:] = [record for record in held if not belongs(record)]
        refused = consumer.finish(gone)
        out.write(f"lost {len(gone)} refused {len(refused)}\n")

    with anyio.open_signal_receiver(signal.SIGTERM) as asked:
        async with (
            open_consumer(parse_kafka_url(url), group, {"work": topic}) as consumer,
            anyio.create_task_group() as tasks,
        ):
            consumer.on_lost = lost
            tasks.start_soon(take, consumer, out, held, unfinished)
            out.write("ready to end\n")
            async for _ in asked:
                tasks.cancel_scope.cancel()
                break


if __name__ == "__main__":
    url, group, topic, log, backend, unfinished = sys.argv[1:]
    with Path(log).open("a", buffering=1) as file:
        anyio.run(work, url, group, topic, file, unfinished, backend=backend)
