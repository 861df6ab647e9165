"""Renews the lease, on a thread of its own: a busy event loop must not cost the lease, and an idle one is not asked.

The thread renews, and reads OK, LOST or EPOCH; it decides nothing itself (``_core.lease`` does) and touches nothing of the loop's:
it writes ``lease.deadline``, and posts the rest. In simulations the same driver runs as a task (``run_as_task``).
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable

import attrs

from flowq._core.lease import Lease
from flowq._errors import FlowqError
from flowq._model import Renewed, Status
from flowq._runtime.events import Events
from flowq._runtime.floor import NO_LEASE, Floor
from flowq._runtime.nudge import Nudge
from flowq._runtime.options import RunOptions
from flowq._runtime.overrun import Publisher
from flowq.backends.protocol import Renewer, Standing

NOBODY = Standing("", 0, "", 0)
STALL_TOLD = 2.0
"""Seconds of a silent loop after which its stack is logged."""
LONGEST_REST = 0.5
"""Seconds; so that a suspend, or a loop that stalls, is noticed soon."""
EXIT_OVERRUN = 70
THREAD = "flowq keeper"


@attrs.define(eq=False)
class Reports:
    """What the keeper tells the loop. Called in the loop."""

    lost: Callable[[Lease], None]
    forgot: Callable[[Lease], None]
    change: Callable[[Lease, str], None]
    cancels: Callable[[list[tuple[str, str, str]]], None]
    failed: Callable[[BaseException], None]


class Keeper:
    """See the module. ``pulse`` is written by the loop, ``lease.deadline`` by the thread; each is one float."""

    def __init__(
        self, floor: Floor, options: RunOptions, publisher: Publisher, new_renewer: Callable[[], Renewer]
    ) -> None:
        self._floor = floor
        self._options = options
        self._publisher = publisher
        self._new_renewer = new_renewer
        self._renewer: Renewer | None = None
        self._events: Events = floor.events
        self._now = floor.loop.now
        self.lease: Lease = NO_LEASE
        self.standing = NOBODY
        self.pulse = self._now()
        self.reports: Reports | None = None
        self._told = ""
        self._stop = False
        self._poked = threading.Event()
        self._nudge = Nudge()
        self._stalled = False
        self._loop_thread = threading.get_ident()

    # --- the loop's side ----------------------------------------------------------------------------------------------------

    def watch_over(self, lease: Lease, standing: Standing) -> None:
        """From now on renew this lease, for this member."""
        is_new = lease is not self.lease
        self.standing = standing
        self.lease = lease
        if is_new:
            self.poke()

    def poke(self) -> None:
        """Something changed: look now."""
        self._poked.set()
        self._nudge.set()

    def publish(self) -> None:
        """Tell the supervisor; once a turn, and whenever a body leaves after the lease."""
        if not self._publisher.is_active:
            return
        lease, floor = self.lease, self._floor
        bodies = floor.limited_bodies() if lease.over else floor.limited_outstanding()
        self._publisher.publish(math.inf if lease is NO_LEASE else lease.kill_at, bodies)

    def start_thread(self) -> None:
        self.pulse = self._now()  # the start may have waited long for the server
        threading.Thread(target=self._run, name=THREAD, daemon=True).start()

    async def run_as_task(self) -> None:
        """The same without a thread, under a virtual clock: renewals are plain calls, and must not block."""
        try:
            while not self._stop:
                await self._nudge.wait(max(0.0, self._step() - self._now()))
        finally:
            self._close()

    def stop(self) -> None:
        """End the thread, soon: it may be waiting for an answer."""
        self._stop = True
        self.poke()

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stop:
                until = self._step()
                self._poked.wait(max(0.0, until - self._now()))
                # before what it was poked for is looked at: a poke from here on shortens the next rest
                self._poked.clear()
        except BaseException as exc:  # noqa: BLE001 - the worker must learn of its keeper's end, whatever it was
            self._tell("failed", exc)
        finally:
            self._close()

    def _close(self) -> None:
        if self._renewer is not None:
            self._renewer.close()
            self._renewer = None

    def _step(self) -> float:
        """Do what is due. Returns until when to rest."""
        lease, now = self.lease, self._now()
        if lease is NO_LEASE:
            return now + LONGEST_REST
        bodies = self._floor.limited_bodies()
        self._look_at_loop(now)
        step = lease.step(now, self.pulse, bodies, self._options.max_loop_stall)
        if step.do == "renew":
            self._renew(lease)
            return self._now()
        if step.do == "report":
            self._report_overrun(lease, bodies)
        if lease.over or now >= lease.deadline:
            self.publish()
        return min(step.until, now + LONGEST_REST)

    def _renew(self, lease: Lease) -> None:
        sent_at = self._now()
        kill_at = lease.kill_at
        heard = lease.about_to_tell(sent_at)
        if lease.kill_at != kill_at or heard != self._told:
            self._told = heard
            self.publish()
        try:
            if self._renewer is None:
                self._renewer = self._new_renewer()
            answer = self._renewer.renew(self.standing, self._floor.running, heard)
        except FlowqError as exc:
            if lease.failed(self._now()):
                self._events.say(
                    logging.WARNING, "lease.at_risk", "no renewal was answered lately; in %.1f s limited bodies are cancelled: %s",
                    lease.deadline - self._now(), exc, seconds=lease.deadline - self._now(), failures=lease.failures,
                )  # fmt: skip
            return
        self._heed(lease, answer, sent_at)

    def _heed(self, lease: Lease, answer: Renewed, sent_at: float) -> None:
        now = self._now()
        if answer.status is Status.OK:
            lease.renewed(sent_at, now)
            if not lease.over:
                self.publish()
        elif answer.status is Status.LOST:
            lease.lost(now)
            self._tell("lost", lease)
        else:
            lease.forgot(now)
            self._tell("forgot", lease)
        if answer.status is not Status.LOST:
            lease.told_at = sent_at
            if answer.change != lease.change:
                self._tell("change", lease, answer.change)
        if answer.cancels:
            self._tell("cancels", answer.cancels)

    def _tell(self, what: str, *args: object) -> None:
        reports = self.reports
        if reports is not None:
            self._floor.loop.post(getattr(reports, what), *args)

    def _look_at_loop(self, now: float) -> None:
        silent = now - self.pulse
        if silent < STALL_TOLD:
            self._stalled = False
        elif not self._stalled and not self._floor.loop.is_virtual:
            self._stalled = True
            frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage] - the documented way
            stack = (
                "".join(traceback.format_stack(frame))
                if frame is not None
                else "(its stack is not to be had)"
            )
            self._events.say(
                logging.WARNING, "loop.stalled", "the event loop has not run for %.1f s; its thread is here:\n%s", silent, stack,
                seconds=silent, stack=stack,
            )  # fmt: skip

    def _report_overrun(self, lease: Lease, bodies: int) -> None:
        names = sorted(
            {
                c.lane.task_name
                for c in tuple(self._floor.consumers)
                if c.limiter is not None and c.lane is not None
            }
        )
        late = self._now() - lease.deadline
        self._events.say(
            logging.CRITICAL, "lease.overrun", "%d bodies of limited tasks (%s) still run %.1f s after their lease: others may run "
            "beside them, above the limit", bodies, ", ".join(names), late, bodies=bodies, tasks=names, seconds=late,
        )  # fmt: skip
        callback = self._options.on_lease_overrun
        if callback is not None:
            try:
                callback(bodies)
            except Exception as exc:  # noqa: BLE001 - a user's callback may raise anything, and the keeper goes on
                self._events.say(
                    logging.ERROR, "lease.overrun_callback", "on_lease_overrun raised", error=exc
                )
        if self._options.hard_stop:
            logging.shutdown()
            os._exit(EXIT_OVERRUN)


def join_threads(seconds: float) -> None:
    """Wait at most so long, each, for threads that were told to stop: while one lasts, its frames hold the app's objects."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(seconds)


def as_flowq_error(error: BaseException) -> BaseException:
    """What a worker dies of when its keeper died."""
    if isinstance(error, FlowqError):
        return error
    wrapped = FlowqError(f"defect of flowq: the keeper's thread ended: {error!r}")
    wrapped.__cause__ = error
    return wrapped
