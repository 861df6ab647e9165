"""``/metrics``: what Prometheus reads of a ``flowq run``, the worker processes' counters and the app's gauges."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowq.cli import metrics
from flowq.cli.board import Pulse, clock
from flowq.cli.metrics import AppFigures, Lookout, TaskFigures, read, render
from tests.cli.stage import Stage, policy
from tests.cli.test_run import Running, run_app  # noqa: F401 - a fixture
from tests.cli.test_supervisor import Supervised, eventually, supervise  # noqa: F401 - a fixture


def figures(age: float = 0.0) -> AppFigures:
    tasks = [TaskFigures("bill", 3, 1.5, 2, 4, 1, 5, 2), TaskFigures("log", 0, 0, 0, 0, 0, None, 0)]
    return AppFigures(clock() - age, "shop", 2, tasks)


def samples(page: bytes) -> dict[str, float]:
    """Name and labels → value."""
    return {
        f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value
        for family in text_string_to_metric_families(page.decode())
        for s in family.samples
    }


def get(port: int | None, path: str = "/metrics") -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_the_page() -> None:
    """Counters by worker process and outcome, gauges by task; an unlimited task has no limit."""
    pulse = Pulse(
        running=2, consuming=True, concurrency=8, succeeded=7, dead=1, stalls=3, outages=2, leases_lost=1
    )

    found = samples(render([(0, pulse), (1, Pulse())], figures()))

    assert found["flowq_worker_jobs_total{outcome=succeeded,worker=0}"] == 7
    assert found["flowq_worker_jobs_total{outcome=dead,worker=0}"] == 1
    assert found["flowq_worker_consumers_busy{worker=0}"] == 2
    assert found["flowq_worker_consumers{worker=0}"] == 8
    assert (found["flowq_worker_up{worker=0}"], found["flowq_worker_up{worker=1}"]) == (1, 0)
    assert found["flowq_worker_loop_stalls_total{worker=0}"] == 3
    assert found["flowq_worker_redis_lost_total{worker=0}"] == 2
    assert found["flowq_worker_leases_lost_total{worker=0}"] == 1
    bill = {name: found[f"flowq_{name}{{app=shop,task=bill}}"] for name in (
        *("jobs_ready", "oldest_waiting_seconds", "jobs_running", "jobs_delayed", "dead_letters", "limit", "task_workers"),
    )}  # fmt: skip
    assert list(bill.values()) == [3, 1.5, 2, 4, 1, 5, 2]
    assert "flowq_limit{app=shop,task=log}" not in found
    assert found["flowq_workers{app=shop}"] == 2


def test_old_figures_are_left_out() -> None:
    """No figure is better than a wrong one."""
    assert not any("task=bill" in name for name in samples(render([(0, Pulse())], figures(age=61))))


def test_one_process_looks_for_all(stage: Stage, tmp_path: Path) -> None:
    """Whoever comes while the look is fresh does not look; a later one takes over from a process that is gone."""
    stage.submit("resize")
    stage.join(resize=policy(limit=3))
    path = tmp_path / "figures"
    first, second = (Lookout(path, index, stage.url, stage.name, None) for index in (0, 1))
    try:
        first.look()
        found = read(path)
        assert found is not None
        assert [(t.task, t.ready, t.limit, t.workers) for t in found.tasks] == [("resize", 1, 3, 1)]
        before = path.read_bytes()
        second.look()
        assert path.read_bytes() == before
        found.at -= metrics.LOOK_EVERY + 1
        path.write_bytes(msgspec.json.encode(found))
        second.look()
        assert read(path).at == found.at
        first.look()
        assert read(path).at > found.at
    finally:
        first.close()
        second.close()
    assert [file.name for file in tmp_path.iterdir()] == ["figures"]


@pytest.mark.crash
def test_a_running_app(stage: Stage, run_app: Callable[..., Running]) -> None:  # noqa: F811
    """Over HTTP, from two worker processes: what they did, and what waits in Redis."""
    import socket

    with socket.create_server(("", 0)) as probe:
        port = probe.getsockname()[1]
    stage.submit("lonely")
    running = run_app("--health-port", str(port), "--processes", "2")
    stage.submit("resize", 0)
    stage.submit("doomed")

    def look() -> Any:
        try:
            status, content, page = get(port)
        except OSError:
            return None
        assert (status, content) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found = samples(page)
        ended = {
            outcome: sum(
                found.get(f"flowq_worker_jobs_total{{outcome={outcome},worker={i}}}", 0) for i in (0, 1)
            )
            for outcome in ("succeeded", "dead")
        }
        lonely = found.get(f"flowq_jobs_ready{{app={stage.name},task=lonely}}")
        return found if ended == {"succeeded": 1, "dead": 1} and lonely == 1 else None

    found = eventually(look, 20)

    assert found[f"flowq_task_workers{{app={stage.name},task=lonely}}"] == 0
    assert found["flowq_worker_consumers{worker=0}"] == 32
    running.process.terminate()
    assert running.end() == 0


def test_without_the_extra(supervise: Callable[..., Supervised]) -> None:  # noqa: F811
    """The page says what to install; probes and workers do not care."""
    running = supervise("ready,wait", health_port=0, without="prometheus_client")
    eventually(lambda: get(running.port, "/readyz")[0] == 200)

    status, _, page = get(running.port)

    assert (status, page) == (501, b"/metrics needs prometheus_client: pip install 'trio-flowq[metrics]'\n")
