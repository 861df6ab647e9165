"""How many no-op jobs a second does one process run, enqueue excluded, and what does a job cost worker and server?

Everything is on: fencing, timeouts, cancellation, statistics; results are off. Once without a limit and once with ``limit=50`` on the
task, in turns, a hundred consumers. The requests on the wire are counted in a run of their own, through the proxy.
"""

from __future__ import annotations

from typing import Any

import flowq
from bench.bodies import add_probe, noop, open_bench
from bench.child import measured, profiled
from bench.conditions import Conditions, Figure, Target
from bench.server import Server, running_server
from bench.wire import tapped

LIMIT = 50
CONCURRENCY = 100
RATE = 25_000
"""Jobs stored for each second of the measurement: about what a busy machine does."""
KINDS = {"unlimited": None, f"limit={LIMIT}": LIMIT}


async def run_noops(
    url: str,
    server: str,
    jobs: int,
    limit: int | None,
    *,
    rounds: int = 1,
    results: bool = False,
    profile: str = "",
) -> list[dict[str, float]]:
    """Run ``jobs`` no-op jobs in this process, ``rounds`` times (in a child process: see ``measured``).

    Args:
        url: the worker's way to the server.
        server: the server's own URL.
        jobs: how many.
        limit: of the task.
        rounds: how often.
        results: keep results.
        profile: a file for cProfile's statistics; it makes everything slower.
    """
    app = flowq.App("noops", url)
    add_probe(app)
    task: Any = app.task(name=f"noop{limit or ''}", limit=limit, results=results)(noop)
    found = []
    async with open_bench(app, server, CONCURRENCY) as bench:
        for _ in range(rounds):
            await bench.fill(task, jobs)
            with profiled(profile):
                took = await bench.drain(task, jobs)
            found.append(took.figures())
    return found


def bench(conditions: Conditions) -> list[Figure]:
    """The figures of this question."""
    jobs = int(RATE * conditions.seconds)
    figures: list[Figure] = []
    by_loop: dict[str, list[float]] = {}
    with running_server(conditions) as server:
        samples: dict[tuple[str, str], list[dict[str, float]]] = {}
        for run in range(conditions.runs):
            for kind, limit in KINDS.items():
                for backend in conditions.backends if run % 2 == 0 else conditions.backends[::-1]:
                    found = measured(
                        run_noops, backend, url=server.url, server=server.url, jobs=jobs, limit=limit
                    )
                    samples.setdefault((backend, kind), []).extend(found)
        for backend in conditions.backends:
            for kind in KINDS:
                figures += _figures(backend, kind, samples[backend, kind])
            figures.append(_cost_of_limit(backend, samples))
            figures += _on_the_wire(backend, server, jobs // 2)
            by_loop[backend] = [one["per_second"] for one in samples[backend, "unlimited"]]
    if len(by_loop) == 2:
        ratios = [a / t for a, t in zip(by_loop["asyncio"], by_loop["trio"], strict=True)]
        target = Target("at least", 0.9, "CORRECTIONS 4.5")
        figures.append(Figure("throughput", "both", "asyncio / trio, unlimited", "ratio", ratios, target))
    return figures


def _figures(backend: str, kind: str, samples: list[dict[str, float]]) -> list[Figure]:
    def figure(key: str, name: str, unit: str, target: Target | None = None) -> Figure:
        return Figure("throughput", backend, f"{kind}: {name}", unit, [one[key] for one in samples], target)

    required = Target("at least", 30_000, "issue 4") if backend == "trio" and kind == "unlimited" else None
    return [
        figure("per_second", "no-op jobs", "jobs/s", required),
        figure("client_us", "client CPU", "µs/job"),
        figure("redis_us", "Redis CPU", "µs/job"),
        figure("per_turn", "jobs in one round trip", "jobs"),
        figure("commands", "commands, those inside scripts included", "per job"),
    ]


def _cost_of_limit(backend: str, samples: dict[tuple[str, str], list[dict[str, float]]]) -> Figure:
    pairs = zip(samples[backend, f"limit={LIMIT}"], samples[backend, "unlimited"], strict=True)
    ratios = [limited["per_second"] / free["per_second"] for limited, free in pairs]
    return Figure(
        "throughput", backend, f"limit={LIMIT} / unlimited", "ratio", ratios, Target("at least", 0.75, "issue 4; 0.8 in issue 6"),
    )  # fmt: skip


def _on_the_wire(backend: str, server: Server, jobs: int) -> list[Figure]:
    found = []
    with tapped(server.socket) as wire:
        for kind, limit in KINDS.items():
            whole, none = wire.tap(), wire.tap()
            counts = []
            for tap, n in ((none, 1), (whole, jobs + 1)):
                measured(run_noops, backend, url=tap.url, server=server.url, jobs=n, limit=limit)
                submits = tap.requests["submit"]
                counts.append((tap.total - submits, tap.sent + tap.received))
            requests = (counts[1][0] - counts[0][0]) / jobs
            target = Target("at most", 0.1, "issue 6 (f)")
            found.append(
                Figure("throughput", backend, f"{kind}: requests on the wire", "per job", [requests], target)
            )
            size = (counts[1][1] - counts[0][1]) / jobs
            found.append(
                Figure(
                    "throughput",
                    backend,
                    f"{kind}: bytes on the wire",
                    "per job",
                    [size],
                    note="both ways, enqueue included",
                )
            )
    return found
