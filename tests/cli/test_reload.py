"""``flowq run --reload``: new code without a restart by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from flowq._errors import ConfigurationError
from flowq.cli.reload import Watch
from tests.cli.stage import Ran, Stage, policy
from tests.cli.test_supervisor import eventually

ROOT = Path(__file__).resolve().parent.parent.parent

APP = """
import os, pathlib
import anyio
import flowq

app = flowq.App(os.environ["APP_NAME"])


@app.task
async def tell(n: int) -> None:
    with open("witness", "a") as file:
        file.write(f"VERSION {n} {os.getpid()}\\n")


@app.task
async def endless() -> None:
    with open("witness", "a") as file:
        file.write(f"VERSION endless {flowq.current_job().attempt}\\n")
    await anyio.sleep(60)
"""


@attrs.define
class Reloading:
    """A ``flowq run --reload`` in its directory."""

    stage: Stage
    folder: Path
    process: subprocess.Popen[bytes]

    def write(self, version: str, text: str = APP) -> None:
        """Save the app's file as an editor does: the whole of it in one step."""
        new = self.folder / "new"
        new.write_text(text.replace("VERSION", version))
        new.replace(self.folder / "shop.py")

    def told(self) -> list[str]:
        path = self.folder / "witness"
        return path.read_text().splitlines() if path.exists() else []

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def until_told(self, version: str, n: int) -> None:
        self.stage.submit("tell", n)
        eventually(lambda: any(line.startswith(f"{version} {n} ") for line in self.told()), 20)


@pytest.fixture
def reloading(stage: Stage, tmp_path: Path) -> Iterator[Callable[..., Reloading]]:
    started: list[Reloading] = []
    # not below tmp_path: the path of a unix socket is short
    run_dir = tempfile.mkdtemp(prefix="fq-", dir="/tmp")

    def start(version: str, *options: str) -> Reloading:
        stage.leave(stage.join(ttl=10, quick=policy()))
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flowq", "run", "shop:app", "--reload", *options],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "FLOWQ_RUN_DIR": run_dir,
                    "FLOWQ_URL": stage.url,
                    "APP_NAME": stage.name,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stderr=log,
            )
        started.append(Reloading(stage, tmp_path, process))
        return started[-1]

    (tmp_path / "shop.py").write_text(APP.replace("VERSION", "one"))
    yield start
    for one in started:
        one.process.terminate()
        one.process.wait(20)
    shutil.rmtree(run_dir)


@pytest.mark.crash
def test_a_change_replaces_the_worker_processes(reloading: Callable[..., Reloading]) -> None:
    """All of them; a body that runs is handed back after a second and runs again, as the same attempt, by the new code."""
    running = reloading("one", "--processes", "2")
    running.until_told("one", 1)
    before = set(running.children())
    running.stage.submit("endless")
    eventually(lambda: "one endless 1" in running.told())

    running.write("two")

    eventually(lambda: "two endless 1" in running.told(), 20)
    running.until_told("two", 2)
    eventually(lambda: len(running.children()) == 2 and not before & set(running.children()), 20)
    assert "shop.py changed: the worker processes are replaced" in running.log()
    assert running.process.poll() is None


@pytest.mark.crash
def test_a_mistake_is_shown_and_mended(reloading: Callable[..., Reloading]) -> None:
    """An import error ends no ``--reload``: it waits for the next change."""
    running = reloading("one")
    running.until_told("one", 1)
    running.write("two", "def (:\n")
    eventually(lambda: "waiting for a change" in running.log(), 20)
    assert running.children() == []
    assert "SyntaxError" in running.log()

    running.write("three")

    running.until_told("three", 3)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(20) == 0


def test_what_else_changes_does_not_count(tmp_path: Path) -> None:
    """Only Python files do, below the directories that are watched."""
    (tmp_path / "below").mkdir()
    watch = Watch([tmp_path])
    try:
        probe = tmp_path / "probe.py"

        def is_watching() -> bool:
            probe.write_text("x")
            return bool(watch.changed())

        eventually(is_watching)
        eventually(lambda: not watch.changed())
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "below" / "tasks.py").write_text("x")
        found: list[str] = []

        def all_found() -> bool:
            found.extend(watch.changed())
            return any(name.endswith("below/tasks.py") for name in found)

        eventually(all_found)
        assert not any(name.endswith(".txt") for name in found)
    finally:
        watch.close()


def test_without_the_extra(
    stage: Stage, flowq: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is said what to install."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    ran = flowq("run", "shop:app", "--reload")
    assert (ran.code, ran.err) == (78, "flowq: --reload needs watchfiles: pip install 'trio-flowq[reload]'\n")


def test_a_directory_that_is_not_there() -> None:
    """Is named."""
    with pytest.raises(ConfigurationError, match="--reload-dir nowhere: there is no such directory"):
        Watch([Path("nowhere")])
