"""The house's habits, as far as a machine can hold them."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import anyio
import pytest

from tests.conftest import RedisServer, leaks

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted((ROOT / "flowq").rglob("*.py"))
SESSIONS = {"tests", "property", "kafka", "stress", "bench", "lint", "types", "docs", "demo"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """Top-level names of what a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def command_in_readme(words: str) -> str:
    """The one line of README.md's shell blocks that holds ``words``."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if words in line]
    assert len(lines) == 1, f"README.md should say {words!r} on exactly one line of a shell block: {lines}"
    return lines[0]


@pytest.mark.parametrize("name", [module_name(path) for path in SOURCES])
def test_every_module_imports(name: str) -> None:
    """Each module imports by itself, with nothing but the core dependencies' and the dev group's packages."""
    assert importlib.import_module(name).__name__ == name


def test_public_names_resolve() -> None:
    """Every name that ``flowq.__all__`` promises is there, once."""
    flowq = importlib.import_module("flowq")

    missing = [name for name in flowq.__all__ if not hasattr(flowq, name)]

    assert missing == []
    assert len(flowq.__all__) == len(set(flowq.__all__)) > 0


def test_nothing_unpickles() -> None:
    """No file of the library imports a module that runs code from data."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}

    found = {path.name: names for path in SOURCES if (names := imported_modules(path) & forbidden)}

    assert found == {}


def test_no_file_is_a_drawer() -> None:
    """No module is named after what it is not: a helper lives in the room that uses it."""
    drawers = {"utils", "util", "common", "helpers", "misc", "constants", "types"}

    assert [path.name for path in SOURCES if path.stem in drawers] == []


def test_package_is_marked_as_typed() -> None:
    """Type checkers read our annotations only where py.typed stands."""
    assert (ROOT / "flowq" / "py.typed").is_file()


def test_nox_sessions_exist() -> None:
    """Each session that the documentation names can be run by that name."""
    listed = subprocess.run(
        [
            sys.executable,
            "-m",
            "nox",
            "--list-sessions",
            "--json",
            "-f",
            str(ROOT / "noxfile.py"),
            "-s",
            *SESSIONS,
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert listed.returncode == 0, listed.stderr
    assert {session["name"] for session in json.loads(listed.stdout)} == SESSIONS


def test_dev_extra_and_dev_group_are_one_list() -> None:
    """`pip install .[dev]` and `pip install --group dev` bring the same."""
    extra = PYPROJECT["project"]["optional-dependencies"]["dev"]

    assert extra == PYPROJECT["dependency-groups"]["dev"]


def test_version_is_said_once() -> None:
    """The installed distribution has the version of pyproject.toml: nobody else spells one."""
    assert importlib.metadata.version("trio-flowq") == PYPROJECT["project"]["version"]


def test_ci_runs_the_readmes_test_command() -> None:
    """What CI runs is, letter for letter, what the README tells a stranger to run."""
    command = command_in_readme("-m pytest")

    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_pages_hold() -> None:
    """Relative links resolve, Python blocks compile, and tests that a page names exist."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "check.py")], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("page", "defect"),
    [
        ("[gone](gone.md)\n", "no such file"),
        ("# One\n\n[two](#two)\n", "no such heading"),
        ("```python\nawait =\n```\n", "does not compile"),
        ("Shown by `tests/test_gone.py`.\n", "does not exist"),
    ],
)
def test_page_check_sees_each_defect(tmp_path: Path, page: str, defect: str) -> None:
    """The check of the pages is not green because it looks at nothing."""
    (tmp_path / "page.md").write_text(page)

    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "check.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 1
    assert defect in checked.stdout


def test_leak_check_sees_what_is_left(redis_server: RedisServer, app_name: str) -> None:
    """A key without TTL, a job in a stream and a member that never left are each named; lawful keys are not."""
    prefix = f"flowq:{{{app_name}}}:"
    with redis_server.client() as client:
        client.hset(prefix + "clock", "t", 1)
        client.set(prefix + "r:job", "{}", px=60_000)
        lawful = leaks(client, app_name)
        client.set(prefix + "stray", "x")
        client.xadd(prefix + "s:resize", {"d": "{}"})
        client.xgroup_create(prefix + "s:resize", "flowq", "0")
        client.hset(prefix + "member:m1", "pool", "p")

        found = leaks(client, app_name)
        excused = leaks(client, app_name, jobs=True, members=True)
        client.delete(prefix + "stray", prefix + "s:resize", prefix + "member:m1")

    assert lawful == []
    assert [line.split(" ")[0].removeprefix(prefix) for line in found] == ["member:m1", "s:resize", "stray"]
    assert [line.split(" ")[0].removeprefix(prefix) for line in excused] == ["stray"]


async def test_a_limiter_may_have_no_token(anyio_backend: object) -> None:
    """A paused or lost lane is a limiter of zero tokens: the reason for the floors of anyio and trio in pyproject.toml."""
    limiter = anyio.CapacityLimiter(1)
    limiter.total_tokens = 0

    with pytest.raises(anyio.WouldBlock):
        limiter.acquire_on_behalf_of_nowait("delivery")

    limiter.total_tokens = 1
    limiter.acquire_on_behalf_of_nowait("delivery")
    limiter.release_on_behalf_of("delivery")
    assert limiter.borrowed_tokens == 0
