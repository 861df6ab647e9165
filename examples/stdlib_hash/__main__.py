"""Hash and compress every file of Python's standard library. ``python -m examples.stdlib_hash``."""

from __future__ import annotations

import argparse
import sysconfig
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

import flowq
from examples.stdlib_hash.tasks import Digest, app, digest


def files_of_the_stdlib(directory: Path, most: int | None) -> list[str]:
    """Every source file, without caches and installed packages."""
    skipped = {"__pycache__", "site-packages", "dist-packages"}
    found = sorted(p for p in directory.rglob("*.py") if not skipped & set(p.relative_to(directory).parts))
    return [str(p) for p in found[:most]]


async def main(directory: Path, *, most: int | None, own_worker: bool) -> list[Digest]:
    """Enqueue a job per file, wait for all results, print what they say."""
    paths = files_of_the_stdlib(directory, most)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        if own_worker:
            await stack.enter_async_context(flowq.open_worker(app, concurrency=8))
        await stack.enter_async_context(app)
        jobs = await app.enqueue_many(digest.bind(path) for path in paths)
        print(f"{len(jobs)} jobs enqueued in {time.monotonic() - began:.2f} s")
        found = [await job.result(timeout=300) for job in jobs]
    report(found, time.monotonic() - began)
    return found


def report(found: list[Digest], seconds: float) -> None:
    """Print the totals, the extremes and the duplicates."""
    size, compressed = sum(d.size for d in found), sum(d.compressed for d in found)
    print(
        f"{len(found)} files, {size / 1e6:.1f} MB, compressed {compressed / 1e6:.1f} MB, in {seconds:.1f} s"
    )
    best = min((d for d in found if d.size > 1000), key=lambda d: d.compressed / d.size)
    print(f"most compressible: {best.path} ({best.compressed / best.size:.0%} of {best.size} bytes)")
    same = defaultdict(list)
    for d in found:
        if d.size:
            same[d.sha256].append(d.path)
    for paths in sorted((p for p in same.values() if len(p) > 1), key=len, reverse=True)[:3]:
        print(f"{len(paths)} files with one content, for example {paths[0]} and {paths[1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.stdlib_hash", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--most", type=int, help="at most so many files")
    parser.add_argument(
        "--no-worker", action="store_true", help="`flowq run examples.stdlib_hash.tasks:app` does the work"
    )
    parser.add_argument("--backend", choices=("trio", "asyncio"), default="trio")
    given = parser.parse_args()
    anyio.run(
        lambda: main(given.directory, most=given.most, own_worker=not given.no_worker), backend=given.backend
    )
