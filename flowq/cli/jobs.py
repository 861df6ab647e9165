"""``flowq ls``, ``show``, ``why`` and ``cancel``: single jobs, by the ids that ``Job.id`` gives."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from flowq._model import CancelAnswer, JobStatus
from flowq.backends.redis.lookup import LOOK_AHEAD
from flowq.backends.redis.views import JobView, Snapshot, TypeView, WorkerView, as_json
from flowq.cli import show
from flowq.cli.dead import print_letter
from flowq.cli.exits import Exit
from flowq.cli.grid import Grid
from flowq.cli.target import AsJson, Name, Namespace, Url, the_app

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job id: type:…")]


class State(enum.StrEnum):
    """What ``ls`` can be asked for."""

    ready = "ready"
    delayed = "delayed"
    running = "running"


def ls(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="A task's name.")],  # noqa: A002 -- the argument's name
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    json: AsJson = False,
) -> None:
    """List a type's jobs that have not ended: running, ready, then delayed, oldest first."""
    with the_app(name, url, namespace) as found:
        jobs = found.jobs(type, state.value if state else None, limit + 1)
        if not jobs:
            found.check_known(type)
        more, jobs = len(jobs) > limit, jobs[:limit]
    if json:
        print(msgspec.json.encode([msgspec.Raw(as_json(job)) for job in jobs]).decode())
        return
    made = Grid(
        *("job", "state", "since", "worker", "attempt", "crashes", "arguments"),
        right=("since", "attempt", "crashes"),
        text=("arguments",),
        spare=("worker", "attempt", "state"),
    )
    for job in jobs:
        since = (
            f"in {show.seconds(job.seconds)}"
            if job.status is JobStatus.DELAYED
            else show.seconds(job.seconds)
        )
        made.add_row(
            show.plain(job.id),
            job.status.value,
            since,
            (job.member or "")[:8],
            str(job.attempt),
            str(job.crashes),
            show.plain(show.arguments(job.envelope)),
        )
    console = show.console()
    console.print(made if jobs else f"{type}: no such jobs")
    if more:
        console.print(Text("there are more", style="dim"))


def show_job(
    job_id: JobId, name: Name = None, url: Url = None, namespace: Namespace = None, *, json: AsJson = False
) -> None:
    """Show one job: where it is, its arguments, and what became of it."""
    with the_app(name, url, namespace) as found:
        job = found.job(job_id)
        if json:
            print(as_json(job).decode())
        else:
            _print_job(job, found.snapshot())
    if job.status is JobStatus.UNKNOWN:
        raise typer.Exit(Exit.FAILED)


def _print_job(job: JobView, snapshot: Snapshot) -> None:
    if job.letter is not None:
        # it tells all that the record tells, and more
        print_letter(job.letter, status=job.status.value)
        return
    rows: dict[str, str] = {"job": job.id, "status": job.status.value}
    if job.seconds is not None:
        rows["since"] = _since(job)
    if job.entry is not None:
        times = (
            f"delivered {show.count(job.deliveries, 'time')}, {show.count(job.crashes, 'crash', 'crashes')}"
        )
        rows["entry"] = f"{job.entry} ({times})"
    if job.member is not None:
        rows["worker"] = _worker_name(job.member, snapshot).removeprefix("worker ")
    if job.envelope is not None:
        rows["attempt"] = str(job.attempt)
        rows["arguments"] = show.arguments(job.envelope, length=2000)
        rows |= {k: str(job.envelope[k]) for k in ("key", "headers", "expires") if k in job.envelope}
    if job.record is not None:
        rows |= {
            k: str(v)
            for k, v in job.record.items()
            if k not in ("status", "traceback") and v not in ("", None)
        }
    console = show.console()
    for key, value in rows.items():
        console.print(Text(f"{key:10} ", style="dim") + show.plain(value), soft_wrap=True)


def _since(job: JobView) -> str:
    if job.status is not JobStatus.DELAYED or job.seconds is None:
        return show.seconds(job.seconds)
    due = job.seconds
    return f"due in {show.seconds(due)}" if due >= 0 else f"was due {show.seconds(-due)} ago"


def why(job_id: JobId, name: Name = None, url: Url = None, namespace: Namespace = None) -> None:
    """Say why a job is not running (or that it is, or what became of it)."""
    with the_app(name, url, namespace) as found:
        job = found.job(job_id)
        snapshot = found.snapshot()
        before = found.ahead(job) if job.status is JobStatus.READY else 0
    for line in reasons(job, snapshot, before):
        print(show.printable(line))
    if job.status is JobStatus.UNKNOWN:
        raise typer.Exit(Exit.FAILED)


def reasons(job: JobView, snapshot: Snapshot, ahead: int) -> list[str]:
    """What stands between a job and its body, the strongest first.

    Args:
        ahead: how many ready jobs of its type are in front of it.
    """
    lane = next((t for t in snapshot.types if t.name == job.lane), None)
    match job.status:
        case JobStatus.RUNNING | JobStatus.CANCELLING:
            return _running(job, snapshot)
        case JobStatus.DELAYED:
            return _delayed(job, lane)
        case JobStatus.READY:
            return _ready(job, lane, snapshot, ahead)
        case JobStatus.UNKNOWN:
            unknown = (
                "it is not outstanding, and no record of it is kept: it ended (and its result has expired, or its task stores none), "
                "or there never was such a job"
            )
            return [unknown]
        case _:
            ended = f"it has ended: {job.status.value}"
            reason = (
                (job.record or {}).get("message")
                or (job.record or {}).get("reason")
                or (job.letter.reason if job.letter else "")
            )
            return [f"{ended}: {reason}" if reason else ended]


def _running(job: JobView, snapshot: Snapshot) -> list[str]:
    assert job.member is not None
    worker = next((w for w in snapshot.workers if w.member == job.member), None)
    said = f"it is running: {_worker_name(job.member, snapshot)} has had it for {show.seconds(job.seconds)} (attempt {job.attempt})"
    lines = [said]
    if worker is None or not worker.alive:
        dead = (
            f"its worker is dead ({_worker_name(job.member, snapshot)}): another one takes it over as soon as one that serves "
            f"{job.lane} is alive and has room"
        )
        lines = [dead]
        lane = next((t for t in snapshot.types if t.name == job.lane), None)
        lines += _obstacles(lane, snapshot)
    if job.status is JobStatus.CANCELLING:
        lines.append("its cancellation was asked for; its worker has been told")
    return lines


def _delayed(job: JobView, lane: TypeView | None) -> list[str]:
    seconds = job.seconds or 0.0
    retried = f" (attempt {job.attempt}: it failed before and is tried again)" if job.attempt > 1 else ""
    if seconds > 0:
        return [f"it is delayed: due in {show.seconds(seconds)}{retried}"]
    lines = [f"it was due {show.seconds(-seconds)} ago{retried}: the next call of any worker makes it ready"]
    if lane is None or lane.served_by == 0:
        lines.append(f"no live worker serves {job.lane}")
    return lines


def _ready(job: JobView, lane: TypeView | None, snapshot: Snapshot, ahead: int) -> list[str]:
    lines = _obstacles(lane, snapshot)
    if ahead:
        lines.append(
            f"ready jobs of its type in front of it: {ahead}{' or more' if ahead >= LOOK_AHEAD else ''}"
        )
    if job.deliveries:
        lines.append(
            "it was handed back by a worker (not counted as an attempt) and is taken up before new ones"
        )
    if job.crashes:
        lines.append(f"it took its worker down {show.count(job.crashes, 'time')}")
    if not lines:
        lines.append("nothing stands in its way: it starts within a second; ask again")
    return [f"it has been ready for {show.seconds(job.seconds)}", *lines]


def _obstacles(lane: TypeView | None, snapshot: Snapshot) -> list[str]:
    """What keeps a lane's ready jobs from starting."""
    if lane is None:
        return ["its type is not known here"]
    lines: list[str] = []
    if lane.paused:
        lines.append(f"{lane.name} is paused: flowq resume {lane.name}")
    if lane.served_by == 0:
        lines.append(
            f"no live worker serves {lane.name}: start one that has its code (and does not exclude it)"
        )
    elif lane.limit == 0 and not lane.paused:
        lines.append(
            f"the limit of {lane.name} is 0: flowq limits set {lane.name} N, or flowq limits reset {lane.name}"
        )
    elif lane.limit and lane.running + lane.orphaned >= lane.limit:
        dead = (
            f", {lane.orphaned} of them in the hands of dead workers until their lease ends"
            if lane.orphaned
            else ""
        )
        lines.append(
            f"the limit is reached: {lane.running + lane.orphaned} of {lane.limit} are in flight{dead}"
        )
    if snapshot.quarantine > 0 and lane.limit is not None:
        lines.append(
            f"the server had forgotten: limited types start nothing for another {snapshot.quarantine:.1f}s"
        )
    serving = [w for w in snapshot.workers if w.alive and lane.name in w.lanes]
    if serving and all(w.running >= w.concurrency > 0 for w in serving):
        lines.append(
            f"all {sum(w.concurrency for w in serving)} consumers of the {len(serving)} workers that serve it are busy"
        )
    return lines


def _worker_name(member: str, snapshot: Snapshot) -> str:
    worker: WorkerView | None = next((w for w in snapshot.workers if w.member == member), None)
    return f"worker {member[:8]}" + (f" on {worker.host}, process {worker.pid}" if worker else "")


def cancel(
    job_id: JobId,
    name: Name = None,
    url: Url = None,
    namespace: Namespace = None,
    *,
    reason: Annotated[str, typer.Option(help="What a waiter and the body learn.")] = "flowq cancel",
) -> None:
    """Cancel a job: one that has not started never will; a running one's body is cancelled."""
    with the_app(name, url, namespace) as found:
        answer = found.cancel(job_id, reason)
    print(
        {
            CancelAnswer.REMOVED: "removed: it had not started and never will",
            CancelAnswer.REQUESTED: "requested: it is running, and its worker was told",
            CancelAnswer.ALREADY_DONE: "it has ended already",
            CancelAnswer.UNKNOWN: "no such job is outstanding, and no record of one is kept",
        }[answer]
    )
    if answer is CancelAnswer.UNKNOWN:
        raise typer.Exit(Exit.FAILED)
