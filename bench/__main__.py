"""``python -m bench [NAME …]``: measure, print a table, write JSON. Without names: everything, about a quarter of an hour."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import report
from bench.conditions import Conditions, Figure, load_average
from bench.peers import command
from flowq.backends.redis.find_server import find_redis_server

BENCHES = (
    "throughput", "latency", "enqueue", "idle", "balance", "recovery", "lateness", "shutdown", "waiting",
    "limits", "memory", "growth", "where",
)  # fmt: skip
"""Each is a module here with ``bench(conditions)``; its docstring says what it asks."""
NAMED = ("designs", "peers")
"""Those that are run only when they are named; ``peers`` has a command line of its own."""
DOCS = Path(__file__).parents[1] / "docs"
DATA = "benchmarks-flowq.json"
BEGIN, END = "<!-- flowq: written by python -m bench --page -->", "<!-- flowq: end -->"
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    if sys.argv[1:2] == ["peers"]:
        command.main(sys.argv[2:])
        return
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.again:
        found = [json.loads(path.read_text()) for path in arguments.again]
        whole = {"machine": found[0]["machine"], "figures": [row for one in found for row in one["figures"]]}
        (DOCS / DATA).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        _write_pages(DOCS)
        return
    if "peers" in arguments.names:
        parser.error("peers comes first and takes arguments of its own: python -m bench peers --help")
    if unknown := set(arguments.names) - {*BENCHES, *NAMED}:
        parser.error(f"no bench is called {min(unknown)}; there are {', '.join(BENCHES + NAMED)}")
    conditions = Conditions(
        server=arguments.server or find_redis_server(),
        backends=(arguments.backend,) if arguments.backend else ("trio", "asyncio"),
        runs=arguments.runs,
        seconds=arguments.seconds,
        persistence=arguments.persistence,
        quick=arguments.quick,
        **({"pages": RESULTS} if arguments.quick else {}),
    )
    facts = report.machine(conditions)
    figures: list[Figure] = []
    failed = []
    for name in arguments.names or BENCHES:
        began, load = time.monotonic(), load_average()
        bench: Callable[[Conditions], list[Figure]] = importlib.import_module(f"bench.{name}").bench
        try:
            found = bench(conditions)
        except Exception as error:  # noqa: BLE001 - one bench that fails must not cost the others' figures
            failed.append(name)
            print(f"{name} failed: {error!r}", file=sys.stderr)
            continue
        for figure in found:
            figure.load = load
        figures += found
        print(
            f"{name}: {time.monotonic() - began:.0f} s, load {load:.1f} → {load_average():.1f}",
            file=sys.stderr,
        )
    facts["load_after"] = load_average()
    facts["failed"] = failed
    if figures:
        report.show(figures, facts)
    path = arguments.json or RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    report.write_json(path, figures, facts)
    print(f"written to {path}")
    if arguments.page:
        publish(conditions.pages, figures, facts)
    raise SystemExit(1 if failed else 0)


def publish(pages: Path, figures: list[Figure], facts: dict[str, Any]) -> None:
    """Write the figures into their pages, and what the tables are made from beside them."""
    report.write_json(pages / DATA, figures, facts)
    _write_pages(pages)


def _write_pages(pages: Path) -> None:
    for page, text in tables(json.loads((pages / DATA).read_text())).items():
        report.write_between(pages / page, BEGIN, text, END)


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Page → its table, from what ``report.write_json`` wrote."""
    profile = [row for row in data["figures"] if row["bench"] == "where"]
    others = [row for row in data["figures"] if row["bench"] != "where"]
    return {
        "benchmarks.md": report.markdown({**data, "figures": others}),
        "performance.md": report.profile({**data, "figures": profile}),
    }


def _parser() -> argparse.ArgumentParser:
    questions = []
    for name in BENCHES + NAMED:
        text = importlib.import_module(f"bench.{name}").__doc__ or ""
        questions.append(f"  {name:11} {text.splitlines()[0]}")
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure what the issues ask for, on a redis-server of the bench's own.",
        epilog="\n".join(questions),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="what to measure; default: all of the list below but designs and peers",
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of one measurement, about (default 2)"
    )
    parser.add_argument("--runs", type=int, default=3, help="how often each is repeated (default 3)")
    parser.add_argument("--backend", choices=("trio", "asyncio"), help="only on this event loop")
    parser.add_argument("--server", type=Path, help="the redis-server program; default: as flowq finds one")
    parser.add_argument(
        "--persistence",
        choices=("none", "everysec", "always"),
        default="none",
        help="append-only file of the server",
    )
    parser.add_argument(
        "--quick", action="store_true", help="designs: tiny numbers, and the page goes to bench/results"
    )
    parser.add_argument(
        "--page", action="store_true", help="write the tables into docs/benchmarks.md and docs/performance.md"
    )
    parser.add_argument(
        "--from",
        dest="again",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing: write the pages from earlier runs on this machine, taken together",
    )
    parser.add_argument("--json", type=Path, help="where the JSON goes; default: bench/results/<time>.json")
    return parser


if __name__ == "__main__":
    main()
