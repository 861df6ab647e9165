"""Looks at the app as a whole, about once a minute and soon after a hint, and says what no job's way would show.

Every worker looks, for each must know what was; one of the fleet says it (``Survey.speaks``), so that a thing is told once.
Nothing depends on this: a look that is not answered is left out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

import anyio

from flowq._core import outlook
from flowq._errors import ServerError
from flowq._fleet import MANY_LETTERS, MOST_LETTERS, LaneSurvey, Survey
from flowq._runtime.aside import Aside
from flowq._runtime.floor import Floor
from flowq._runtime.member import Member
from flowq._runtime.nudge import Nudge
from flowq.backends.protocol import Backend

EVERY = 60.0
"""Seconds between two looks, give or take a tenth: workers that were started together shall not look together."""
REST = 5.0
"""Seconds between two looks at least, however many hints there are."""
AGAIN = 600.0
"""Seconds after which what still holds is said again."""


class Housekeeping:
    """See the module. ``soon`` may be called from any task of the loop."""

    def __init__(self, backend: Backend, floor: Floor, member: Member, aside: Aside) -> None:
        self._backend = backend
        self._floor = floor
        self._events = floor.events
        self._member = member
        self._aside = aside
        self._hint = Nudge()
        self._before: Survey | None = None
        self._clock: outlook.Reading | None = None
        self._told: dict[tuple[str, str], tuple[object, float]] = {}
        """What holds: event and lane → how it was, and when it was said."""

    def soon(self) -> None:
        """Something may have changed: look in the next seconds."""
        self._hint.set()

    async def run(self) -> None:
        """Look until cancelled."""
        await self._say_warnings()
        while True:
            await self._look()
            if self._floor.skewed:
                await self.tell()
            await anyio.sleep(REST)
            await self._hint.wait((EVERY - REST) * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    async def _say_warnings(self) -> None:
        """Once, and beside the start: a server that is set up to lose jobs serves all the same."""
        try:
            for warning in await self._backend.warnings():
                self._events.say(logging.WARNING, "server.unfit", "%s", warning)
        except ServerError as exc:
            self._events.say(
                logging.DEBUG, "server.unknown", "how the server is set up was not asked: %s", exc
            )

    async def tell(self, *, draining: bool = False) -> None:
        """Say what ``flowq status`` shows of this worker."""
        floor = self._floor
        skewed, floor.skewed = floor.skewed, {}
        try:
            await self._backend.fleet.note(self._member.standing, draining=draining, skewed=skewed)
        except ServerError as exc:
            for lane, jobs in skewed.items():
                floor.skewed[lane] = floor.skewed.get(lane, 0) + jobs
            self._events.say(logging.DEBUG, "server.unknown", "what status shows could not be said: %s", exc)

    async def _look(self) -> None:
        now = self._floor.loop.now
        sent_at = now()
        try:
            survey = await self._backend.fleet.survey(self._member.standing)
            answered_at = now()
            await self._aside.look_again(survey.foreign)
        except ServerError as exc:
            self._events.say(logging.DEBUG, "server.unknown", "the look at the app was not answered: %s", exc)
            return
        if survey.time is not None:
            self._compare_clocks(outlook.Reading.of(survey.time, sent_at, answered_at), survey.speaks)
        before, self._before = self._before, survey
        if survey.speaks:
            if before is not None:
                self._say_limit_changes(before, survey)
            self._say_disagreements(survey)
            self._say_unserved(survey)
            self._say_filling(survey)

    def _compare_clocks(self, reading: outlook.Reading, speaks: bool) -> None:
        before, self._clock = self._clock, reading
        if before is not None and speaks and (seconds := outlook.step(before, reading)):
            self._events.say(
                logging.WARNING, "clock.step", "the server's clock stepped by %+.1f s: no lease is hurt; after a step forward delayed "
                "jobs start and results expire early, after one back results expire late", seconds, seconds=round(seconds, 3),
            )  # fmt: skip

    # --- limits -------------------------------------------------------------------------------------------------------------

    def _say_limit_changes(self, before: Survey, survey: Survey) -> None:
        for change in outlook.limit_changes(before, survey):
            self._events.say(
                logging.INFO, "limit.changed", "the limit of %s is %s now, it was %s (%s)", change.lane, _limit(change.after),
                _limit(change.before), change.why, lane=change.lane, limit=change.after, before=change.before, why=change.why,
            )  # fmt: skip

    def _say_disagreements(self, survey: Survey) -> None:
        found = {lane.lane: lane for lane in outlook.disagreements(survey)}
        for lane in self._news("limit.disagrees", {name: row.declared for name, row in found.items()}):
            limits, force = found[lane].declared, survey.limits.get(lane)
            self._events.say(
                logging.WARNING, "limit.disagrees", "live workers declare different limits for %s (%s): %s is in force", lane,
                ", ".join(map(_limit, limits)), _limit(force), lane=lane, limits=list(limits), limit=force,
            )  # fmt: skip

    # --- what waits, and what fills -----------------------------------------------------------------------------------------

    def _say_unserved(self, survey: Survey) -> None:
        found = {lane.lane: lane for lane in outlook.unserved(survey)}
        for lane in self._news("type.unserved", dict.fromkeys(found)):
            row: LaneSurvey = found[lane]
            age = row.oldest or 0.0
            self._events.say(
                logging.WARNING, "type.unserved", "no live worker serves %s: %d waiting, the oldest for %.0f s", lane, row.waiting,
                age, lane=lane, age=age, waiting=row.waiting,
            )  # fmt: skip

    def _say_filling(self, survey: Survey) -> None:
        full = survey.memory if survey.memory is not None and survey.memory >= outlook.NEARLY_FULL else None
        is_full = full is not None and full >= outlook.FULL
        for _ in self._news("redis.full", {} if full is None else {"": is_full}):
            self._events.say(
                logging.ERROR if is_full else logging.WARNING, "redis.full", "the server's memory is %.1f %% full: at 100 %% producers are refused, workers go on draining",
                full, percent=full,
            )  # fmt: skip
        many = survey.letters >= MANY_LETTERS
        for _ in self._news("dead.filling", {"": None} if many else {}):
            self._events.say(
                logging.WARNING, "dead.filling", "%d dead letters of at most %d: beyond that the oldest are lost; replay or drop some",
                survey.letters, MOST_LETTERS, letters=survey.letters, bound=MOST_LETTERS,
            )  # fmt: skip

    def _news(self, event: str, holds: Mapping[str, object]) -> list[str]:
        """Of the lanes for which something holds those for which it must be said: it is new, it changed, or it was long ago."""
        now = self._floor.loop.now()
        for key in [key for key in self._told if key[0] == event and key[1] not in holds]:
            del self._told[key]
        fresh: list[str] = []
        for lane, how in sorted(holds.items()):
            said, at = self._told.get((event, lane), (self, 0.0))
            if said != how or now - at >= AGAIN:
                self._told[event, lane] = (how, now)
                fresh.append(lane)
        return fresh


def _limit(limit: int | None) -> str:
    return "none" if limit is None else str(limit)
