"""The examples do what their README says, on a real server, by the documented commands."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
from PIL import Image

from tests.conftest import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent


def run_example(name: str, *arguments: str, url: str = "", home: Path) -> subprocess.CompletedProcess[str]:
    """The documented command; without a URL on its own embedded server, whose data lies under ``home``."""
    env = {**os.environ, "FLOWQ_URL": url, "XDG_DATA_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )


@pytest.mark.crash
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_stdlib_hash_on_its_own_server(tmp_path: Path, backend: str) -> None:
    """Without any server it hashes and compresses files of the standard library, on both event loops."""
    ran = run_example("stdlib_hash", "--most", "150", "--backend", backend, home=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "150 jobs enqueued" in ran.stdout
    assert "150 files" in ran.stdout
    assert (tmp_path / "flowq" / "stdlib-hash").is_dir()


@pytest.mark.crash
def test_stdlib_hash_by_a_fleet(tmp_path: Path, redis_server: RedisServer) -> None:
    """The same app under ``flowq run``: the submitting process runs no worker of its own."""
    settings = {
        "FLOWQ_URL": redis_server.url,
        "FLOWQ_NAMESPACE": "t" + secrets.token_hex(5),
        "FLOWQ_RUN_DIR": str(tmp_path),
        # limited types of a server that is new to its fleet rest for one lease
        "FLOWQ_LEASE_TTL": "2",
    }
    env = os.environ | settings
    command = [sys.executable, "-m", "flowq", "run", "examples.stdlib_hash.tasks:app", "--processes", "2"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as fleet:
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "examples.stdlib_hash", "--most", "60", "--no-worker"],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=55,
            )
        finally:
            fleet.terminate()

    assert ran.returncode == 0, ran.stderr
    assert "60 files" in ran.stdout
    assert fleet.returncode == 0


@pytest.mark.crash
def test_thumbnails(tmp_path: Path) -> None:
    """Each picture gets a thumbnail of the right proportions; what is none is rejected by name and stops nothing."""
    pictures, output = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    for n in range(3):
        Image.new("RGB", (400, 200), (n, n, n)).save(pictures / f"{n}.png")
    (pictures / "text.png").write_text("no picture")

    ran = run_example("thumbnails", str(pictures), "--output", str(output), home=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "3 thumbnails of 4 images" in ran.stdout
    assert "text.png: rejected" in ran.stdout
    assert [size_of(path) for path in output.iterdir()] == [(128, 64)] * 3


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@asynccontextmanager
async def web_client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The web app inside its lifespan, on a server of this run's own."""
    from examples.webapp.app import app, jobs

    jobs.override(url=url, namespace="t" + secrets.token_hex(5), lease_ttl=1.0)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://web") as client,
    ):
        yield client


async def test_webapp(redis_url: str) -> None:
    """POST gives an id, GET gives 202 until the result is there; the worker runs inside the web app, on both event loops."""
    async with web_client(redis_url) as client:
        accepted = await client.post("/texts", content="to be or not to be")
        with anyio.fail_after(20):
            answer = await client.get(accepted.headers["location"])
            while answer.status_code == 202:
                await anyio.sleep(0.05)
                answer = await client.get(accepted.headers["location"])

    assert accepted.status_code == 202
    assert answer.status_code == 200
    assert answer.json()["result"]["total"] == 6
    assert ["to", 2] in answer.json()["result"]["commonest"]


async def test_webapp_bad_input(redis_url: str) -> None:
    """An unknown id is 404; a text over the payload limit is 413 and says the limit."""
    async with web_client(redis_url) as client:
        unknown = await client.get("/texts/count_words:1-1")
        large = await client.post("/texts", content="x" * (1 << 21))

    assert unknown.status_code == 404
    assert large.status_code == 413
    assert "the limit is" in large.json()["error"]


@pytest.mark.crash
def test_webapp_by_its_command(tmp_path: Path) -> None:
    """The documented command serves on its own embedded server, and SIGTERM ends it in order."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {**os.environ, "FLOWQ_URL": "", "XDG_DATA_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "examples.webapp", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                until(lambda: client.get("/ready").status_code == 200)
                where = client.post("/texts", content="one two two").headers["location"]
                until(lambda: client.get(where).status_code == 200)
                found = client.get(where).json()
        finally:
            server.terminate()

    assert found["result"]["total"] == 3
    assert server.returncode in {0, -signal.SIGTERM}


def until(look: Callable[[], bool], seconds: float = 40) -> None:
    """Wait until it is so; a server that is not there yet is not so."""
    end = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError):
            if look():
                return
        assert time.monotonic() < end
        time.sleep(0.1)
