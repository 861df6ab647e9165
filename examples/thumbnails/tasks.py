"""One task: a thumbnail of an image file."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

import flowq

app = flowq.App("thumbnails", url=os.environ.get("FLOWQ_URL") or "embedded://")


# Two at once in the whole fleet: a decoded photograph takes a hundred times its file's size in memory.
@app.task(limit=2, timeout=30, retries=1)
def thumbnail(source: str, target: str, size: int = 128) -> tuple[int, int]:
    """Write a thumbnail, at most ``size`` pixels wide and high. Returns its width and height."""
    try:
        with Image.open(source) as image:
            image.thumbnail((size, size))
            small = image.convert("RGB")
    except UnidentifiedImageError as error:
        # trying again would not mend the file: straight into the dead letters, where `flowq dead ls` shows it
        raise flowq.Reject(f"{source} is no image that Pillow knows") from error
    # first beside it, then in its place: the job may run again after a crash, and nobody may see half a file
    partial = Path(f"{target}.{os.getpid()}")
    small.save(partial, "JPEG")
    partial.replace(target)
    return small.size
