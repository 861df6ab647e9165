"""docs/guide.md is a program: its blocks are run in order, in one namespace, on trio and on asyncio, against a server of this test's own.

A block whose first line names a file is written to that file. Other Python blocks run with top-level ``await``. Shell blocks run in
bash. Two things are put in place of what the page says: the server's URL, and nothing for ``pip install``.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import anyio
import attrs
import pytest

import flowq
from tests.conftest import RedisServer

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
SAID_URL = "redis://localhost:6379/0"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


@attrs.frozen
class Block:
    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        found = FILE.match(self.text)
        return found[1] if found else ""


def blocks() -> list[Block]:
    page = GUIDE.read_text()
    return [Block(m[1], m[2], page.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(page)]


async def run_python(block: Block, namespace: dict[str, object]) -> None:
    """Its lines keep the numbers that they have on the page, so that a traceback leads there."""
    source = "\n" * (block.line - 1) + block.text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(
        source, str(GUIDE), "exec", flags=flags, dont_inherit=True
    )  # this file's own imports from __future__
    result = eval(code, namespace)
    if inspect.isawaitable(result):
        await result


async def run_shell(block: Block, folder: Path, url: str) -> None:
    lines = [line for line in block.text.splitlines() if not line.startswith("pip install")]
    script = "set -euo pipefail\n" + "\n".join(lines).replace(SAID_URL, url)
    assert "6379" not in script
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with anyio.fail_after(50):
        done = await anyio.run_process(
            ["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, check=False
        )
    assert done.returncode == 0, f"{GUIDE}:{block.line}\n{done.stdout.decode()}{done.stderr.decode()}"


async def make_known(server: RedisServer) -> None:
    """Limited tasks would wait for one lease, ten seconds, on a server that no worker knows yet. A shorter lease would do, too, but a
    busy machine may lose it, and the page does not speak of bodies that are cancelled.
    """
    app = flowq.App("shop", server.url)

    @app.task
    async def nothing() -> None: ...

    async with flowq.open_worker(app):
        pass
    with server.client() as client:
        assert client.hdel("flowq:{shop}:clock", "q")


def test_the_page_has_blocks_of_each_kind() -> None:
    """Nothing is run because nothing was found: that must not pass."""
    kinds = [(block.language, bool(block.file)) for block in blocks()]
    assert kinds.count(("python", False)) > 15
    assert kinds.count(("python", True)) == 3
    assert kinds.count(("sh", False)) == 4
    assert {language for language, _ in kinds} == {"python", "sh"}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_guide(
    new_redis: Callable[..., RedisServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    anyio_backend_name: str,
) -> None:
    """From the first job to production, as the page says it."""
    server = new_redis()
    url = server.url
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FLOWQ_URL", url)
    monkeypatch.setenv("FLOWQ_BACKEND", anyio_backend_name)
    await make_known(server)
    page = ModuleType("guide")  # where annotations of what the page defines are looked up
    monkeypatch.setitem(sys.modules, "guide", page)
    try:
        for block in blocks():
            if block.language == "sh":
                await run_shell(block, tmp_path, url)
            elif block.file:
                (tmp_path / block.file).write_text(block.text)
            else:
                await run_python(block, vars(page))
    finally:
        for name in ("shop", "test_shop"):
            sys.modules.pop(name, None)
