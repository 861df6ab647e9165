"""A peer's own environment: made by one call, kept until its requirements change."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peers.peer import ADAPTERS, Peer

ROOT = Path(__file__).parents[2]
PLACE = Path(os.environ.get("FLOWQ_PEERS", ROOT / "bench" / ".peers"))
"""Where environments are kept; ``.gitignore`` knows the default."""
PATIENCE = 900.0
"""Seconds that one installation may take."""


class CannotInstall(RuntimeError):
    """The reason why a peer is missing from the tables."""


def install(peer: Peer) -> None:
    """Make the environment, unless it is there.

    Raises:
        CannotInstall: no interpreter or no package, with the tool's own words.
    """
    if peer.here:
        return
    stamp = PLACE / peer.name / "installed.json"
    wanted = json.dumps([peer.language, peer.requires, peer.dependencies])
    if stamp.exists() and stamp.read_text() == wanted and (peer.language != "go" or _is_built(peer)):
        return
    folder = stamp.parent
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    {"python": _python, "node": _node, "go": _go}[peer.language](peer, folder)
    stamp.write_text(wanted)


def command(peer: Peer) -> list[str]:
    """What starts the adapter."""
    if peer.here:
        return [sys.executable, str(peer.path)]
    if peer.language == "python":
        return [str(PLACE / peer.name / "bin" / "python"), str(peer.path)]
    if peer.language == "node":
        return ["node", str(peer.path)]
    return [str(PLACE / peer.name / "peer")]


def variables(peer: Peer) -> dict[str, str]:
    """What its processes need to find their packages."""
    if peer.here:
        return {"PYTHONPATH": str(ROOT)}
    if peer.language == "node":
        return {"NODE_PATH": str(PLACE / peer.name / "node_modules"), "NODE_ENV": "production"}
    return {}


def version(peer: Peer) -> str:
    """Of the interpreter or compiler, for the report."""
    words = {
        "python": [*command(peer)[:1], "-c", "import sys; print('Python', sys.version.split()[0])"],
        "node": ["node", "-p", "'Node ' + process.versions.node"],
        "go": ["go", "env", "GOVERSION"],
    }[peer.language]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _is_built(peer: Peer) -> bool:
    program = PLACE / peer.name / "peer"
    return program.exists() and program.stat().st_mtime >= peer.path.stat().st_mtime


def _python(peer: Peer, folder: Path) -> None:
    interpreter = _interpreter(peer.requires)
    _run([interpreter, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, *peer.dependencies])


def _node(peer: Peer, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise CannotInstall("it runs on Node.js, and npm is not on this machine")
    (folder / "package.json").write_text('{"private": true}\n')
    _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *peer.dependencies], folder)


def _go(peer: Peer, folder: Path) -> None:
    if shutil.which("go") is None:
        raise CannotInstall("it is built by Go, which is not on this machine")
    shutil.copy(peer.path, folder / "main.go")
    _run(["go", "mod", "init", "peer"], folder)
    _run(["go", "get", *peer.dependencies], folder)
    _run(["go", "build", "-o", "peer", "."], folder)


def _run(words: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(
        words, cwd=folder or ADAPTERS, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CannotInstall(f"{' '.join(words[:4])} …: {' / '.join(said[-3:])}")


def _runs(interpreter: str) -> bool:
    """pyenv leaves a program of that name on PATH even where it runs nothing."""
    return subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode == 0


def _interpreter(requires: str) -> str:
    """The harness's own Python if it will do, else the oldest one here that does."""
    found = re.fullmatch(r">=3\.(\d+)", requires)
    if found is None:
        raise ValueError(f"requires-python must read >=3.N, not {requires}")
    least = int(found[1])
    if sys.version_info[1] >= least:
        return sys.executable
    for minor in range(least, least + 5):
        homes = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for path in (shutil.which(f"python3.{minor}"), *map(str, homes)):
            if path is not None and _runs(path):
                return path
    raise CannotInstall(f"it needs Python {requires}, and none is on this machine")
