"""Make a thumbnail of every image in a directory. ``python -m examples.thumbnails [DIRECTORY]``; without one it paints 24 itself."""

from __future__ import annotations

import argparse
import colorsys
import hashlib
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from PIL import Image, ImageDraw

import flowq
from examples.thumbnails.tasks import app, thumbnail

KINDS = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"}


def paint(directory: Path, count: int) -> None:
    """Pictures to work on, for machines without any; and one file that only claims to be one."""
    for n in range(count):
        red, green, blue = colorsys.hsv_to_rgb(n / count, 0.7, 0.9)
        image = Image.new("RGB", (1600, 1200), (round(255 * red), round(255 * green), round(255 * blue)))
        draw = ImageDraw.Draw(image)
        for ring in range(20, 600, 20):
            draw.ellipse((800 - ring, 600 - ring, 800 + ring, 600 + ring), outline=(255, 255, 255), width=3)
        image.save(directory / f"ring-{n:02}.png")
    (directory / "broken.png").write_bytes(b"not a picture")


def images_in(directory: Path, output: Path) -> list[Path]:
    """Image files by their names; what was made here before is left out."""
    return sorted(p for p in directory.rglob("*") if p.suffix.lower() in KINDS and output not in p.parents)


async def main(directory: Path, output: Path) -> dict[str, tuple[int, int]]:
    """Enqueue a job per image, wait for all, print what became of each."""
    sources = images_in(directory, output)
    made: dict[str, tuple[int, int]] = {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(flowq.open_worker(app, threads=4))
        await stack.enter_async_context(app)
        jobs = {}
        for source in sources:
            name = hashlib.sha256(str(source).encode()).hexdigest()[:16]
            # the key: while a picture's thumbnail is being made, asking for it again gives the same job
            task = thumbnail.options(key=name)
            jobs[source] = await task.enqueue(str(source.resolve()), str((output / f"{name}.jpg").resolve()))
        for source, job in jobs.items():
            try:
                made[source.name] = await job.result(timeout=120)
            except flowq.JobFailed as error:
                print(f"{source.name}: {error.kind}: {error}")
    print(f"{len(made)} thumbnails of {len(sources)} images in {output}")
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.thumbnails", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir(), "thumbnails"))
    parser.add_argument("--backend", choices=("trio", "asyncio"), default="trio")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as painted:
        if given.directory is None:
            paint(Path(painted), 24)
        anyio.run(main, given.directory or Path(painted), given.output, backend=given.backend)
