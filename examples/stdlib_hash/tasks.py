"""One task: hash and compress a file."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import flowq

app = flowq.App("stdlib-hash", url=os.environ.get("FLOWQ_URL") or "embedded://")


@dataclass
class Digest:
    """What became of one file; comes back from the worker as this very type."""

    path: str
    sha256: str
    size: int
    compressed: int


# A plain def: it runs in a thread. hashlib and zlib let go of the GIL, so several use several cores; more than a few at once
# would only make the disk seek, hence the limit, which holds over all workers.
@app.task(limit=4, timeout=60)
def digest(path: str) -> Digest:
    """Read a file; return its hash and its size before and after compression."""
    data = Path(path).read_bytes()
    return Digest(path, hashlib.sha256(data).hexdigest(), len(data), len(zlib.compress(data)))
