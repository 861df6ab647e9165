"""A peer as its adapter describes it: the ``script`` block at the head of the file, which every language's adapter has."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs

ADAPTERS = Path(__file__).parent / "adapters"
LANGUAGES: dict[str, Literal["python", "node", "go"]] = {".py": "python", ".cjs": "node", ".go": "go"}


@attrs.frozen
class Contestant:
    """One row of the tables: a peer with what distinguishes it from its other rows, such as its event loop."""

    peer: Peer = attrs.field(repr=False)
    kind: str
    options: dict[str, Any]
    only: tuple[str, ...]
    """The workloads in which it takes part; empty: all."""

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.kind}".strip()


@attrs.frozen
class Peer:
    """One queue."""

    name: str
    path: Path
    language: Literal["python", "node", "go"]
    requires: str
    """The Python that it needs, as ``>=3.13``."""
    dependencies: tuple[str, ...]
    docs: tuple[str, ...]
    """The pages that recommend the first settings, each with what it says."""
    queued: str
    """The Redis command that counts the stored no-op jobs."""
    settings: tuple[dict[str, Any], ...]
    """The documented ones first; the others are our sweep. The best is measured."""
    here: bool
    """It runs in the harness's own environment: flowq itself."""
    rows: tuple[tuple[str, dict[str, Any]], ...]
    wide: tuple[str, dict[str, Any]] | None
    """(c): the setting that says how many bodies run at once, and what has to be set with it."""
    limits: bool
    """(e): its tasks may have a limit over all workers."""
    note: str
    """What a reader of its figures has to know."""

    @property
    def contestants(self) -> list[Contestant]:
        found = []
        for kind, options in self.rows:
            rest = dict(options)
            only = tuple(rest.pop("only", ()))
            found.append(Contestant(self, kind, rest, only))
        return found


def peers() -> dict[str, Peer]:
    """All of them by name, flowq first."""
    files = [path for path in ADAPTERS.glob("peer_*") if path.suffix in LANGUAGES]
    found = [read(path) for path in files]
    return {peer.name: peer for peer in sorted(found, key=lambda peer: (not peer.here, peer.name))}


def read(path: Path) -> Peer:
    """One adapter's block."""
    block = tomllib.loads(_block(path))
    bench = block["tool"]["bench"]
    return Peer(
        name=path.stem.removeprefix("peer_"),
        path=path,
        language=LANGUAGES[path.suffix],
        requires=block.get("requires-python", ">=3.11"),
        dependencies=tuple(block.get("dependencies", ())),
        docs=tuple(bench["docs"]),
        queued=bench["queued"],
        settings=tuple(bench.get("settings", ({},))),
        here=bench.get("here", False),
        rows=tuple(bench.get("contestants", {"": {}}).items()),
        wide=_wide(bench.get("wide")),
        limits=bench.get("limits", False),
        note=bench.get("note", ""),
    )


def _wide(said: dict[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    if said is None:
        return None
    rest = dict(said)
    return rest.pop("by"), rest


def _block(path: Path) -> str:
    """The TOML between ``# /// script`` and ``# ///``, or the same after ``//``."""
    lines: list[str] = []
    inside = False
    for line in path.read_text().splitlines():
        text = line.removeprefix("#").removeprefix("//")
        if text.strip() == "/// script":
            inside = True
        elif inside and text.strip() == "///":
            return "\n".join(lines)
        elif inside:
            lines.append(text.removeprefix(" "))
    raise ValueError(f"{path} has no block `/// script … ///`")
