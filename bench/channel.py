"""How fast is flowq's link to Redis, beside redis-py's asyncio client on the same server, in one run?

    python bench/channel.py [--seconds 2] [--server /path/to/redis-server] [--tcp]

For each of (flowq on trio, flowq on asyncio, redis-py on asyncio), in turns over several rounds so that a noisy machine hits all
alike; the best of the rounds is printed, as other work on the machine only ever makes a figure worse:

- single: one task, one GET at a time: round trips a second, and µs of client CPU each.
- 100 tasks: each one GET at a time. flowq puts them on one link; redis-py takes a connection each from its pool.
- script: 20 tasks, each an EVALSHA with 4 KB of arguments at a time (the shape of settle + claim).
- pipeline: one task, 100 GETs per pipeline: commands a second.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import redis.asyncio

from flowq.backends.redis.channel import open_channel
from flowq.backends.redis.find_server import find_redis_server
from flowq.backends.redis.script import Script
from flowq.backends.redis.url import parse_url

Call = Callable[[], Awaitable[Any]]

SCRIPT = Script(
    "bench", "local k = KEYS[1]\nlocal rest = 1  -- ARGV[1..]: values\nreturn {k, #ARGV - rest + 1}\n"
)
VALUES = [b"x" * 200] * 20
ROUNDS = 5


async def measure(call: Call, tasks: int, seconds: float) -> tuple[float, float]:
    """Calls a second, and µs of client CPU per call."""
    count = 0
    stop = anyio.current_time() + seconds

    async def caller() -> None:
        nonlocal count
        while anyio.current_time() < stop:
            await call()
            count += 1

    began, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(caller)
    return count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6


async def cases(single: Call, script: Call, pipeline: Call, seconds: float) -> dict[str, tuple[float, float]]:
    await measure(single, 1, seconds / 10)
    one = await measure(single, 1, seconds)
    many = await measure(single, 100, seconds)
    scripted = await measure(script, 20, seconds)
    piped, cpu = await measure(pipeline, 1, seconds)
    return {"single": one, "100 tasks": many, "script": scripted, "pipeline": (piped * 100, cpu / 100)}


async def flowq(url: str, seconds: float) -> dict[str, tuple[float, float]]:
    async with open_channel(parse_url(url)) as channel:
        await channel.execute("SET", "k", "v" * 20)
        return await cases(
            partial(channel.execute, "GET", "k"),
            partial(channel.evalsha, SCRIPT, ["k"], VALUES),
            partial(channel.execute_many, [("GET", "k")] * 100),
            seconds,
        )


async def redis_py(url: str, seconds: float) -> dict[str, tuple[float, float]]:
    client: Any = redis.asyncio.from_url(url)
    await client.set("k", "v" * 20)
    run_script = client.register_script(SCRIPT.text_for((6, 2, 0)))

    async def pipeline() -> None:
        pipe = client.pipeline(transaction=False)
        for _ in range(100):
            pipe.get("k")
        await pipe.execute()

    try:
        return await cases(
            partial(client.get, "k"), partial(run_script, keys=["k"], args=VALUES), pipeline, seconds
        )
    finally:
        await client.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="per case and round")
    parser.add_argument("--server", type=Path, help="redis-server to run; default: as flowq finds one")
    parser.add_argument(
        "--tcp", type=int, default=0, metavar="PORT", help="over TCP instead of a unix socket"
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fq-bench-"))
    program = options.server or find_redis_server()
    command = [
        program,
        "--port",
        str(options.tcp),
        "--unixsocket",
        str(folder / "s"),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    url = f"redis://127.0.0.1:{options.tcp}" if options.tcp else f"unix://{folder}/s"
    contenders: dict[str, tuple[Callable[..., Any], str]] = {
        "flowq trio": (flowq, "trio"),
        "flowq asyncio": (flowq, "asyncio"),
        "redis-py asyncio": (redis_py, "asyncio"),
    }
    results: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while not (folder / "s").exists():
                time.sleep(0.01)
            for _ in range(ROUNDS):
                for name, (run, backend) in contenders.items():
                    for case, figures in anyio.run(run, url, options.seconds, backend=backend).items():
                        results.setdefault((case, name), []).append(figures)
        finally:
            server.terminate()
    shutil.rmtree(folder)
    print(
        f"{program} over {'TCP' if options.tcp else 'a unix socket'}; best of {ROUNDS} rounds of {options.seconds:g} s"
    )
    print(f"{'':10}" + "".join(f"{name:>30}" for name in contenders))
    for case in ("single", "100 tasks", "script", "pipeline"):
        row = [results[case, name] for name in contenders]
        figures = [
            f"{max(rate for rate, _ in rounds):,.0f}/s, {min(cpu for _, cpu in rounds):.1f} µs"
            for rounds in row
        ]
        print(f"{case:10}" + "".join(f"{text:>30}" for text in figures))


if __name__ == "__main__":
    main()
